//! The end of a project's machines: each before those that it needs.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::{Result, anyhow, bail};
use vmm::compose::Project;

use super::Member;
use crate::commands::stop::{self, Timeout};
use crate::output::say;

/// Does something with each member at once, but with none before it has been done with all members of
/// services that need it. Without a project no one needs another.
///
/// # Errors
/// It could not be done with some: each has been told.
pub fn in_reverse(
    project: Option<&Project>,
    members: &[Member],
    act: impl Fn(&Member) -> Result<()> + Sync,
) -> Result<()> {
    let left: BTreeSet<usize> = (0..members.len()).collect();
    let (left, changed) = (Mutex::new(left), Condvar::new());
    let needs = |one: &str, other: &str| {
        let service = project.and_then(|project| project.services.get(one));
        service.is_some_and(|service| service.depends_on.contains_key(other))
    };
    let carry_out = |nth: usize, member: &Member| {
        let mut there = left.lock().unwrap_or_else(PoisonError::into_inner);
        let is_needed = |other: &usize| {
            let other = members.get(*other);
            other.is_some_and(|other| needs(&other.service, &member.service))
        };
        while there.iter().any(is_needed) {
            there = changed.wait(there).unwrap_or_else(PoisonError::into_inner);
        }
        drop(there);
        let result = act(member);
        // Those that it needs must go also if it does not.
        let mut there = left.lock().unwrap_or_else(PoisonError::into_inner);
        there.remove(&nth);
        changed.notify_all();
        result
    };
    let failed = thread::scope(|scope| {
        let carry_out = &carry_out;
        let threads: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(nth, member)| scope.spawn(move || carry_out(nth, member)))
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err(anyhow!("a thread has panicked")),
        });
        let named = results.zip(members).filter_map(|(result, member)| {
            let error = result.err()?;
            say(format_args!("{}: {error:#}", member.machine.name));
            Some(())
        });
        named.count()
    });
    match failed {
        0 => Ok(()),
        _ => bail!("{failed} of {} machines could not be ended", members.len()),
    }
}

/// Kills all that run. What cannot be killed is told.
pub fn kill_all(members: &[Member]) {
    for member in members {
        if let Err(error) = stop::kill(&member.machine) {
            say(format_args!("{}: {error:#}", member.machine.name));
        }
    }
}

impl Member {
    /// Ends the machine, if it runs.
    ///
    /// # Errors
    /// It cannot even be killed.
    pub fn stop(&self, timeout: &Timeout) -> Result<()> {
        if self.machine.is_running {
            stop::stop(&self.machine, timeout)
        } else {
            Ok(())
        }
    }
}
