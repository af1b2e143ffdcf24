//! A machine that is started again when it has ended: the parent of its processes, one after
//! another.
//!
//! The one thing to know: it has the machine's folder from the first start to the last end, so the
//! machine runs for everyone meanwhile; and it looks for a note in the machine's record that says
//! that a user has stopped it. It holds no memory of a guest, and when it is killed, so is the
//! machine.

mod policy;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use crate::cgroup;
use crate::control::message::send;
use crate::detach::{Process, Role, Told, settle};
use crate::events::{self, Happened, Kernel};
use crate::machines::record::End;
use crate::machines::{Record, Running};
use policy::Restarts;

/// How often the note is looked for that says that the machine was stopped.
const PERIOD: Duration = Duration::from_millis(100);

/// The status of what was killed.
const KILLED: u8 = 128 + 9;

/// Starts the machine `name` until it is not to be started again.
///
/// # Errors
/// It could not be started even once, or its record cannot be written.
pub fn carry_out(name: &str) -> Result<u8> {
    let (starter, secrets) = settle()?;
    let record = Record::open(name).with_context(|| format!("there is no machine {name}"))?;
    let Some(running) = Running::claim(name)? else {
        bail!("{name} runs already");
    };
    let facts = record.facts()?;
    let mut restarts = Restarts::new(&record.app_file()?.app.restart);
    let mut starter = Some(starter);
    let status = loop {
        let begun = Instant::now();
        let mut process = Process::start(&record, Role::Supervised, &secrets)?;
        let mut told = process.hear();
        if let Some(starter) = starter.take() {
            // It may be gone, and then nobody wants to know.
            let _ = send(
                &starter,
                told.as_ref()
                    .map_err(|error| anyhow::anyhow!("{error:#}"))?,
            );
            if let Ok(Told::Ended(end)) = &told {
                break end.status;
            }
        }
        if let Ok(Told::Started) = told {
            told = process.hear();
        }
        let end = match told {
            Ok(Told::Ended(end)) => end,
            _ => killed(name, &record, &running.cgroup())?,
        };
        process.wait();
        let delay = restarts.after(&end, begun.elapsed());
        match delay {
            Some(delay) if !is_stopped_within(&record, delay) => {
                record.set_restarts(restarts.count())?;
                events::note(name, Happened::Restarted);
            }
            _ => break end.status,
        }
    };
    if facts.remove_at_end {
        record.remove()?;
    }
    drop(running);
    Ok(status)
}

/// Notes the end of a machine that could not do so itself. `cgroup` points to its group, if it had
/// one.
fn killed(name: &str, record: &Record, cgroup: &Path) -> Result<End> {
    let reason = if cgroup::oom_kills(cgroup) > 0 {
        let kernel = Kernel::Host;
        events::note(name, Happened::Oom { kernel });
        "its monitor was killed for want of memory: with its guest it had more than limits.memory"
    } else {
        "its monitor was killed"
    };
    let end = End {
        at: Timestamp::now(),
        status: KILLED,
        reason: Some(reason.into()),
        reboots: false,
    };
    record.set_end(Some(&end))?;
    events::note(name, Happened::died(&end));
    Ok(end)
}

/// Waits, unless the machine was stopped or is so meanwhile.
fn is_stopped_within(record: &Record, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if record.is_stopped() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(left.min(PERIOD));
    }
}
