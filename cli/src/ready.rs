//! Waiting until a machine that was started is ready, for `--wait`.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};

use crate::control::client;
use crate::control::message::{Health, HealthStatus};
use crate::logs::{self, Entry, Reader};
use crate::machines::{self, Record};
use crate::state::State;

/// How often a machine is asked that does not say what is new.
const PERIOD: Duration = Duration::from_millis(100);

/// Lines of the program's that an error shows.
const LINES: usize = 10;

/// Whether to wait, and how long.
#[derive(Debug, clap::Args)]
// A group is named by its type, and the commands that take this one are `Args`, too.
#[group(skip)]
pub struct Args {
    /// Wait until the machine is ready; fail if it ends or is unhealthy before
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u32>,
}

impl Args {
    /// # Errors
    /// It was asked for, where nobody waits.
    pub fn ensure_not_asked(&self) -> Result<()> {
        ensure!(!self.wait, "--wait is of no use without --detach");
        Ok(())
    }

    /// Waits, if that was asked for, until the machine of `record` is ready.
    ///
    /// # Errors
    /// It will not be: what it said last.
    pub fn wait(&self, record: &Record) -> Result<()> {
        if !self.wait {
            return Ok(());
        }
        let name = record.name();
        let timeout = self.wait_timeout.map(u64::from).map(Duration::from_secs);
        let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
        loop {
            let Ok(machine) = machines::find(&name) else {
                bail!("{name} has ended before it was ready, and is gone");
            };
            let state = State::of(&machine)?;
            match Outlook::of(&state) {
                Outlook::Ready => return Ok(()),
                Outlook::Hopeless(why) => return Err(with_last_lines(&name, &why, record)),
                Outlook::Open => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let time = timeout.unwrap_or_default().as_secs();
                let why = format!("is not ready after {time} s");
                return Err(with_last_lines(&name, &why, record));
            }
            await_news(&state);
        }
    }
}

/// Returns when a machine may not be what it was any more.
pub fn await_news(state: &State) {
    let said = state.info.as_ref();
    // One that does not answer, since it starts or is of another version, is asked from time to time.
    if said.is_none_or(|info| client::await_news(&state.name, info).is_err()) {
        thread::sleep(PERIOD);
    }
}

/// What is to be expected of a machine.
#[derive(Debug, PartialEq, Eq)]
enum Outlook {
    Ready,
    /// Nobody knows yet.
    Open,
    /// It will not be ready; why.
    Hopeless(String),
}

impl Outlook {
    fn of(state: &State) -> Self {
        let info = state.info.as_ref();
        let health = info.and_then(|info| info.health.as_ref());
        if let Some(Health {
            status: HealthStatus::Unhealthy,
            last,
            ..
        }) = health
        {
            let why = last.as_ref().map(|last| last.output.as_str());
            return Self::Hopeless(format!("is unhealthy: {}", why.unwrap_or_default()));
        }
        // One that has been started again meanwhile has not kept up either.
        if state.restarts > 0 || !state.is_up() {
            let end = state.end.as_ref();
            let how = match end.map(|end| (end.status, &end.reason)) {
                Some((_, Some(reason))) => format!(": {reason}"),
                Some((status, None)) => format!(" with status {status}"),
                None => String::new(),
            };
            return Self::Hopeless(format!("has ended{how}"));
        }
        match info {
            Some(info) if info.ready => Self::Ready,
            _ => Self::Open,
        }
    }
}

/// Why something is wrong with the machine called `name`, and what its program said last.
pub fn with_last_lines(name: &str, why: &str, record: &Record) -> anyhow::Error {
    let mut reader = Reader::open(&logs::output(&record.logs()));
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = reader.next_line() {
        if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
            last.push_back(entry.text.trim_end().to_owned());
        }
        if last.len() > LINES {
            last.pop_front();
        }
    }
    if last.is_empty() {
        return anyhow!("{name} {why}");
    }
    let lines = last.make_contiguous().join("\n  ");
    anyhow!("{name} {why}\nits program said last:\n  {lines}")
}
