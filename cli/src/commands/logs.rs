//! `mvm logs`: what kept machines have said.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};

use crate::logs::{self, Entry, Reader, Stream};
use crate::machines::{self, Record, running};

/// How often a log is looked at that is followed.
const PERIOD: Duration = Duration::from_millis(200);

/// Print what a machine's program has said
///
/// Its standard output goes to standard output, its errors to standard error.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// The machine
    name: String,
    /// Go on until the machine has ended
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines
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

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machine = machines::find(&args.name)?;
    match print(args, machine.kept()?) {
        // A reader that has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn print(args: &Args, record: &Record) -> Result<()> {
    let folder = record.logs();
    let path = match () {
        () if args.console => logs::console(&folder),
        () if args.mvm => logs::monitor(&folder),
        () => logs::output(&folder),
    };
    let mut log = Log {
        args,
        reader: Reader::open(&path),
    };
    log.show_old()?;
    if args.follow {
        log.show_new(&record.name())?;
    }
    let rest = log.reader.rest();
    show_all(args, rest.and_then(|rest| Line::of(args, rest)))
}

/// A log that is being shown.
struct Log<'a> {
    args: &'a Args,
    reader: Reader,
}

impl Log<'_> {
    /// What has been said so far, or the last lines of it.
    fn show_old(&mut self) -> Result<()> {
        let Some(tail) = self.args.tail else {
            while let Some(line) = self.next()? {
                show_all(self.args, Some(line))?;
            }
            return Ok(());
        };
        let mut last = VecDeque::new();
        while let Some(line) = self.next()? {
            last.push_back(line);
            if last.len() > tail {
                last.pop_front();
            }
        }
        show_all(self.args, last)
    }

    /// What is said until the machine ends.
    fn show_new(&mut self, name: &str) -> Result<()> {
        loop {
            // Asked first: what it said before its end is read after.
            let is_running = running::is_running(name);
            while let Some(line) = self.next()? {
                show_all(self.args, Some(line))?;
            }
            if !is_running {
                return Ok(());
            }
            thread::sleep(PERIOD);
        }
    }

    /// The next line that is asked for.
    fn next(&mut self) -> Result<Option<Line>> {
        while let Some(line) = self.reader.next_line().context("cannot read the log")? {
            if let Some(line) = Line::of(self.args, line) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

/// A line to show.
enum Line {
    Plain(Vec<u8>),
    Kept(Entry),
}

impl Line {
    /// The line if it is asked for.
    fn of(args: &Args, line: Vec<u8>) -> Option<Self> {
        if args.console || args.mvm {
            return Some(Self::Plain(line));
        }
        // One that a crash has cut.
        let entry: Entry = serde_json::from_slice(&line).ok()?;
        let is_late = args.since.is_none_or(|since| entry.time >= since);
        let is_early = args.until.is_none_or(|until| entry.time < until);
        (is_late && is_early).then_some(Self::Kept(entry))
    }
}

fn show_all(args: &Args, lines: impl IntoIterator<Item = Line>) -> Result<()> {
    for line in lines {
        show(args, &line)?;
    }
    Ok(io::stdout().flush()?)
}

fn show(args: &Args, line: &Line) -> Result<()> {
    let entry = match line {
        Line::Plain(bytes) => return Ok(io::stdout().write_all(bytes)?),
        Line::Kept(entry) => entry,
    };
    if args.json {
        let line = serde_json::to_string(entry)? + "\n";
        return Ok(io::stdout().write_all(line.as_bytes())?);
    }
    let time = args.timestamps.then(|| format!("{:.6} ", entry.time));
    let line = time.unwrap_or_default() + &entry.text;
    match entry.stream {
        Stream::Stdout => io::stdout().write_all(line.as_bytes())?,
        Stream::Stderr => io::stderr().write_all(line.as_bytes())?,
    }
    Ok(())
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
