//! `mvm up` in the foreground: what all machines say, how each ends, and the end of all.
//!
//! The one thing to know: the machines are processes in the background as always. This one starts
//! them, reads their logs, and stops them when it is asked to end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};

use anyhow::{Context, Result};
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vmm::compose::Project;

use super::{Member, Replica, Starter, in_reverse, kill_all, members};
use crate::commands::logs::{How, Log, Logs, PERIOD};
use crate::commands::stop::Timeout;
use crate::events::{self, Event, Happened};
use crate::logs::Reader;
use crate::machines::record::End;
use crate::machines::{Record, running};
use crate::output::say;
use crate::ready::with_last_lines;

/// The status of what ended by a second Ctrl-C.
const INTERRUPTED: u8 = 128 + 2;

/// Colours of names, as terminals number them: none that stands for an error, none that cannot be read.
const COLOURS: [u8; 5] = [6, 3, 2, 5, 4];

/// The colour of the name of the machine with number `nth`, where names have one.
pub fn colour(nth: usize, is_terminal: bool) -> Option<u8> {
    let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none();
    COLOURS
        .get(nth % COLOURS.len())
        .copied()
        .filter(|_| is_coloured)
}

/// When all is stopped, and with which status.
#[derive(Debug, Default)]
pub struct Ending {
    /// Once a machine has ended.
    pub on_exit: bool,
    /// With the status of this service.
    pub status_of: Option<String>,
}

/// Machines in the foreground.
pub struct Follow<'a> {
    /// What they belong to.
    pub project: &'a Project,
    /// What they are.
    pub replicas: &'a [Replica],
    /// What starts them.
    pub starter: &'a Starter<'a>,
    /// When it is over.
    pub ending: Ending,
}

impl Follow<'_> {
    /// Starts the machines, shows what they say, and stops them when it is time.
    ///
    /// # Errors
    /// One could not be started or stopped, or nobody takes what they say.
    pub fn carry_out(&self) -> Result<ExitCode> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot hear signals")?;
        let (handle, asked) = (signals.handle(), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in signals.forever() {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
            let status = self.follow(scope, &asked);
            handle.close();
            status
        })
    }

    fn follow<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        asked: &AtomicUsize,
    ) -> Result<ExitCode> {
        let how = How::from_now_on();
        let mut watch = Watch::new(self, &how)?;
        let mut starting = Some(scope.spawn(|| self.starter.carry_out()));
        let mut stopping: Option<ScopedJoinHandle<'_, Result<()>>> = None;
        let mut failure = None;
        let mut is_killed = false;
        loop {
            // Asked first: what is said before an end is shown with it.
            let is_starting = starting
                .as_ref()
                .is_some_and(|thread| !thread.is_finished());
            let goes_on = is_starting || self.any_runs();
            if !is_starting && let Some(thread) = starting.take() {
                failure = joined(thread).err();
            }
            if let Err(error) = watch.look(goes_on, stopping.is_some()) {
                failure.get_or_insert(error);
            }
            let asked = asked.load(Ordering::Relaxed);
            let is_over = self.ending.on_exit && watch.first_end.is_some();
            if stopping.is_none() && (asked > 0 || is_over || failure.is_some()) {
                if asked > 0 {
                    say(format_args!("stopping all; a second Ctrl-C kills them"));
                }
                self.starter.cancel();
                stopping = Some(scope.spawn(|| self.stop()));
            } else if asked > 1 && !is_killed {
                is_killed = true;
                kill_all(&self.members()?);
            }
            if !goes_on {
                break;
            }
            thread::sleep(PERIOD);
        }
        let is_stopped = stopping.map_or(Ok(()), joined);
        watch.logs.print_rest()?;
        match failure {
            Some(error) => Err(error),
            None if is_killed => Ok(INTERRUPTED.into()),
            None => is_stopped.map(|()| self.status(watch.first_end)),
        }
    }

    /// Stops all once nothing is started any more.
    fn stop(&self) -> Result<()> {
        while !self.starter.is_done() {
            thread::sleep(PERIOD);
        }
        in_reverse(Some(self.project), &self.members()?, |member| {
            member.stop(&Timeout::default())
        })
    }

    /// Those of its machines that there are.
    fn members(&self) -> Result<Vec<Member>> {
        let mut members = members(&self.project.name)?;
        members.retain(|member| {
            let mut replicas = self.replicas.iter();
            replicas.any(|replica| replica.name() == member.machine.name)
        });
        Ok(members)
    }

    fn any_runs(&self) -> bool {
        let mut replicas = self.replicas.iter();
        replicas.any(|replica| running::is_running(replica.name()))
    }

    fn status(&self, first_end: Option<u8>) -> ExitCode {
        let of_service = self.ending.status_of.as_ref().map(|service| {
            let mut replicas = self.replicas.iter();
            let replica = replicas.find(|replica| replica.service == *service)?;
            end_of(replica.name()).map(|end| end.status)
        });
        match of_service {
            Some(status) => status.unwrap_or(KILLED).into(),
            None if self.ending.on_exit => first_end.unwrap_or(0).into(),
            None => ExitCode::SUCCESS,
        }
    }
}

/// The status of what was killed.
const KILLED: u8 = 128 + 9;

fn joined(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread has panicked")))
}

fn words(status: u8, reason: Option<String>) -> String {
    let reason = reason.map(|reason| format!(": {reason}"));
    format!(
        "has ended with status {status}{}",
        reason.unwrap_or_default()
    )
}

/// How the machine has ended, if that is known.
fn end_of(name: &str) -> Option<End> {
    Record::open(name)?.end().ok().flatten()
}

/// What is seen of the machines.
struct Watch<'a> {
    follow: &'a Follow<'a>,
    how: &'a How,
    logs: Logs<'a>,
    events: Reader,
    /// How those have ended that have not been started again so far.
    died: BTreeMap<String, (u8, Option<String>)>,
    /// Those whose end has been told, by their numbers.
    ended: BTreeSet<usize>,
    /// The status of the first that has ended.
    first_end: Option<u8>,
}

impl<'a> Watch<'a> {
    fn new(follow: &'a Follow<'a>, how: &'a How) -> Result<Self> {
        let mut events = Reader::open(&events::path()?);
        // Those of before.
        while events.next_line().context("cannot read events")?.is_some() {}
        let names = follow.replicas.iter();
        let width = names.map(|replica| replica.shown().len()).max();
        Ok(Self {
            follow,
            how,
            logs: Logs::new(how, Vec::new(), Some(width.unwrap_or(0))),
            events,
            died: BTreeMap::new(),
            ended: BTreeSet::new(),
            first_end: None,
        })
    }

    /// Shows what has come. `is_stopping`: that they end is what was asked for.
    fn look(&mut self, goes_on: bool, is_stopping: bool) -> Result<()> {
        let is_terminal = io::stdout().is_terminal();
        let mut ended = Vec::new();
        for (nth, replica) in self.follow.replicas.iter().enumerate() {
            let name = replica.name();
            let Some(record) = Record::open(name).filter(|_| self.follow.starter.has_started(nth))
            else {
                continue;
            };
            if !self.logs.has(name) {
                let log = Log::open(self.how, &record, replica.shown());
                self.logs.push(log.coloured(colour(nth, is_terminal)));
            }
            if running::is_running(name) {
                self.ended.remove(&nth);
            } else if self.ended.insert(nth) {
                ended.push((replica, record));
            }
        }
        self.logs.print_new(goes_on)?;
        self.tell_restarts()?;
        for (replica, record) in ended {
            self.tell_end(replica, &record, is_stopping);
        }
        Ok(())
    }

    fn tell_end(&mut self, replica: &Replica, record: &Record, is_stopping: bool) {
        let name = replica.name();
        let end = end_of(name);
        let status = end.as_ref().map_or(KILLED, |end| end.status);
        self.first_end.get_or_insert(status);
        let how = match end {
            Some(end) => words(status, end.reason),
            None => "has ended: its monitor was killed".into(),
        };
        match status {
            0 => say(format_args!("{name} {how}")),
            _ if is_stopping => say(format_args!("{name} {how}")),
            _ => say(format_args!("{}", with_last_lines(name, &how, record))),
        }
    }

    /// Tells of those that have ended, and that their policies start again.
    fn tell_restarts(&mut self) -> Result<()> {
        while let Some(line) = self.events.next_line().context("cannot read events")? {
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                continue;
            };
            let mut replicas = self.follow.replicas.iter();
            if !replicas.any(|replica| replica.name() == event.name) {
                continue;
            }
            match event.happened {
                Happened::Died { status, reason } => {
                    self.died.insert(event.name, (status, reason));
                }
                Happened::Restarted => {
                    if let Some((status, reason)) = self.died.remove(&event.name)
                        && let Some(record) = Record::open(&event.name)
                    {
                        let how = format!("{}; it is started again", words(status, reason));
                        say(format_args!(
                            "{}",
                            with_last_lines(&event.name, &how, &record)
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
