//! `mvm logs`: what kept machines have said.

mod lines;

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};

use crate::machines;

pub use lines::{Log, Logs};

/// How often a log is looked at that is followed.
pub const PERIOD: Duration = Duration::from_millis(200);

/// Print what the programs of machines have said
///
/// Standard output goes to standard output, errors to standard error. Of several machines the lines
/// are in the order of their times, each behind its machine's name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Which lines are printed, and how.
#[derive(Debug, Default, clap::Args)]
// A group is named by its type, and each command has such a one.
#[group(skip)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct How {
    /// Go on until the machines have ended
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines of each machine
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Only what came at this time or later: RFC 3339, or a duration such as 10m before now
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only what came before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// Begin each line with its time
    #[arg(long, short)]
    timestamps: bool,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    /// What the kernel has said instead
    #[arg(long, conflicts_with_all = ["mvm", "since", "until", "timestamps", "json"])]
    console: bool,
    /// What mvm has said about the machine instead
    #[arg(long, conflicts_with_all = ["since", "until", "timestamps", "json"])]
    mvm: bool,
}

impl How {
    /// What comes from now on, until nobody says more.
    pub fn from_now_on() -> Self {
        Self {
            since: Some(Timestamp::now()),
            follow: true,
            ..Self::default()
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machines = args.names.iter().map(|name| machines::find(name));
    let mut machines = machines.collect::<Result<Vec<_>>>()?;
    machines.sort_by(|one, other| one.name.cmp(&other.name));
    machines.dedup_by(|one, other| one.name == other.name);
    let logs = machines.iter().map(|machine| {
        let record = machine.kept()?;
        Ok(Log::open(&args.how, record, &machine.name))
    });
    let logs: Vec<Log> = logs.collect::<Result<_>>()?;
    let names = logs.iter().map(|log| log.shown().len());
    let width = names.max().filter(|_| logs.len() > 1);
    print(Logs::new(&args.how, logs, width))
}

/// Prints the logs, to their ends or until their machines have ended.
///
/// # Errors
/// A log cannot be read, or nobody takes what it says.
pub fn print(logs: Logs<'_>) -> Result<ExitCode> {
    match print_all(logs) {
        // A reader that has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn print_all(mut logs: Logs<'_>) -> Result<()> {
    logs.skip_to_last()?;
    loop {
        // Asked first: what they said before their end is read after.
        let goes_on = logs.go_on();
        logs.print_new(goes_on)?;
        if !goes_on {
            return logs.print_rest();
        }
        thread::sleep(PERIOD);
    }
}

/// A time, or a duration before now.
pub fn time(text: &str) -> Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    match text.parse::<SignedDuration>() {
        Ok(duration) => Ok(Timestamp::now().checked_sub(duration)?),
        Err(_) => bail!("must be a time such as 2026-01-31T12:00:00Z, or a duration such as 10m"),
    }
}

pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_a_duration() {
        let then = time("10m").unwrap();
        let age = Timestamp::now().duration_since(then);
        assert!((600..660).contains(&age.as_secs()));
        assert_eq!(time("1970-01-01T00:00:00Z").unwrap(), Timestamp::UNIX_EPOCH);
        assert!(time("yesterday").is_err());
    }
}
