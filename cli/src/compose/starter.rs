//! Starts machines, each as soon as what it needs is there, and all that can be at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use vmm::app::App;
use vmm::compose::Condition;

use super::board::{Board, Obstacle};
use super::progress::Progress;
use super::replica::{Done, Replica};
use crate::control::message::HealthStatus;
use crate::machines::Machine;
use crate::ready::{await_news, with_last_lines};
use crate::state::{State, Status};

/// What is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// All of them to be healthy, or ended well.
    pub for_health: bool,
    /// Not longer than this.
    pub timeout: Option<Duration>,
}

/// Machines on their way.
pub struct Starter<'a> {
    replicas: &'a [Replica],
    board: Board<'a>,
    progress: Progress,
    waits: Waits,
    deadline: Option<Instant>,
    is_done: AtomicBool,
}

impl<'a> Starter<'a> {
    /// Of these machines, each behind those that it needs.
    pub fn new(replicas: &'a [Replica], waits: Waits, progress: Progress) -> Self {
        let deadline = waits
            .timeout
            .and_then(|time| Instant::now().checked_add(time));
        Self {
            replicas,
            board: Board::new(replicas),
            progress,
            waits,
            deadline,
            is_done: AtomicBool::new(false),
        }
    }

    /// Starts them. Returns when all are as far as was asked for.
    ///
    /// # Errors
    /// Some have failed: each has been told.
    pub fn carry_out(&self) -> Result<()> {
        let failed = thread::scope(|scope| {
            let threads = self.replicas.iter().enumerate().map(|(nth, replica)| {
                let name = replica.service.clone();
                let thread = thread::Builder::new().name(name);
                thread.spawn_scoped(scope, move || self.bring_up(nth, replica))
            });
            let threads: Vec<_> = threads.collect();
            let mut failed = 0_usize;
            for (nth, thread) in threads.into_iter().enumerate() {
                let is_well = match thread {
                    Ok(thread) => thread.join().unwrap_or(false),
                    Err(error) => {
                        self.fail(nth, &anyhow!(error).context("cannot start a thread"));
                        false
                    }
                };
                failed += usize::from(!is_well);
            }
            failed
        });
        self.progress.finish();
        self.is_done.store(true, Ordering::Relaxed);
        let all = self.replicas.len();
        ensure!(
            failed == 0,
            "{failed} of {all} machines are not as they should be"
        );
        Ok(())
    }

    /// Starts no more, and waits for nothing.
    pub fn cancel(&self) {
        self.board.cancel();
    }

    /// Whether nothing is started any more.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// Whether the program of the machine with number `nth` has been run.
    pub fn has_started(&self, nth: usize) -> bool {
        self.board.is_started(nth)
    }

    fn bring_up(&self, nth: usize, replica: &Replica) -> bool {
        match self.try_to_bring_up(nth, replica) {
            Ok(()) => true,
            Err(error) => {
                self.fail(nth, &error);
                false
            }
        }
    }

    fn fail(&self, nth: usize, error: &anyhow::Error) {
        self.board.fail(nth);
        if !self.board.is_cancelled() {
            self.progress.fail(nth, error);
        }
    }

    fn try_to_bring_up(&self, nth: usize, replica: &Replica) -> Result<()> {
        self.progress.set(nth, "waiting");
        match self.board.await_needs(nth) {
            Ok(()) => {}
            Err(Obstacle::Cancelled) => bail!("was not started"),
            Err(Obstacle::Failed(service)) => bail!("was not started: {service} has failed"),
        }
        self.progress.set(nth, "starting");
        let restarts = restarts(replica.name());
        let (done, before) = match replica.bring_up()? {
            Done::Left => ("runs", restarts),
            Done::Started => ("started", 0),
            Done::Created => ("created", 0),
            Done::Recreated => ("recreated", 0),
        };
        self.progress.set(nth, done);
        self.board.reach(nth, Condition::Started);
        let is_awaited = |condition| {
            replica.wanted == Some(condition) || self.board.is_awaited(&replica.service, condition)
        };
        if self.waits.for_health || is_awaited(Condition::Healthy) {
            let is_over = self.wait_until(replica, before, Condition::Healthy)?;
            self.progress
                .set(nth, if is_over { "completed" } else { "ready" });
            self.board.reach(nth, Condition::Healthy);
        }
        if is_awaited(Condition::Completed) {
            self.wait_until(replica, before, Condition::Completed)?;
            self.progress.set(nth, "completed");
            self.board.reach(nth, Condition::Completed);
        }
        Ok(())
    }

    /// Waits until it is so; true if it has ended well. `restarts`: how often it had been started again
    /// before.
    fn wait_until(&self, replica: &Replica, restarts: u32, condition: Condition) -> Result<bool> {
        let name = replica.name();
        loop {
            let machine = Machine::named(name);
            let Some(record) = &machine.record else {
                bail!("has ended, and is gone");
            };
            let state = State::of(&machine)?;
            match Outlook::of(&state, &replica.app, restarts, condition) {
                Outlook::Reached => return Ok(false),
                Outlook::Completed => return Ok(true),
                Outlook::Hopeless(why) => return Err(with_last_lines(name, &why, record)),
                Outlook::Open => {}
            }
            if self.board.is_cancelled() {
                bail!("is not waited for");
            }
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                let time = self.waits.timeout.unwrap_or_default().as_secs();
                let why = format!("is not so far after {time} s");
                return Err(with_last_lines(name, &why, record));
            }
            await_news(&state);
        }
    }
}

/// How often its policy has started the machine again.
fn restarts(name: &str) -> u32 {
    let record = Machine::named(name).record;
    record
        .and_then(|record| record.restarts().ok())
        .unwrap_or(0)
}

/// What is to be expected of a machine.
#[derive(Debug, PartialEq, Eq)]
enum Outlook {
    Reached,
    /// It has ended with status 0.
    Completed,
    Open,
    /// It will not be so; why.
    Hopeless(String),
}

impl Outlook {
    fn of(state: &State, app: &App, restarts: u32, condition: Condition) -> Self {
        let ended = || {
            state
                .end
                .as_ref()
                .filter(|_| state.status == Status::Exited)
        };
        if ended().is_some_and(|end| end.status == 0) {
            return Self::Completed;
        }
        if condition == Condition::Completed {
            return match state.status {
                Status::Exited | Status::Killed => Self::Hopeless(how_it_ended(state)),
                _ => Self::Open,
            };
        }
        if state.restarts > restarts || !state.is_up() {
            return Self::Hopeless(how_it_ended(state));
        }
        let Some(info) = &state.info else {
            return Self::Open;
        };
        let health = info
            .health
            .as_ref()
            .filter(|_| app.health_check().is_some());
        match health.map(|health| (health.status, &health.last)) {
            None if info.ready => Self::Reached,
            None | Some((HealthStatus::Starting, _)) => Self::Open,
            Some((HealthStatus::Healthy, _)) => Self::Reached,
            Some((HealthStatus::Unhealthy, last)) => {
                let why = last.as_ref().map_or("", |last| last.output.as_str());
                Self::Hopeless(format!("is unhealthy: {why}"))
            }
        }
    }
}

fn how_it_ended(state: &State) -> String {
    match state.end.as_ref().map(|end| (end.status, &end.reason)) {
        Some((_, Some(reason))) => format!("has ended: {reason}"),
        Some((status, None)) => format!("has ended with status {status}"),
        None => "has ended: its monitor was killed".into(),
    }
}
