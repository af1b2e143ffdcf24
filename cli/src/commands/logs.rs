//! `mvm logs`: what kept machines have said.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::logs::{self, Entry, Reader, Stream};
use crate::machines::{self, Record, running};

/// How often a log is looked at that is followed.
const PERIOD: Duration = Duration::from_millis(200);

/// Print what the programs of machines have said
///
/// Standard output goes to standard output, errors to standard error. Of several machines the lines
/// are in the order of their times, each behind its machine's name.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
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

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machines = args.names.iter().map(|name| machines::find(name));
    let mut machines = machines.collect::<Result<Vec<_>>>()?;
    machines.sort_by(|one, other| one.name.cmp(&other.name));
    machines.dedup_by(|one, other| one.name == other.name);
    let logs = machines
        .iter()
        .map(|machine| Ok(Log::open(args, machine.kept()?)));
    match print(args, logs.collect::<Result<_>>()?) {
        // A reader that has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn print(args: &Args, mut logs: Vec<Log>) -> Result<()> {
    let names = logs.iter().map(|log| log.name.len());
    let width = names.max().filter(|_| logs.len() > 1);
    if let Some(tail) = args.tail {
        for log in &mut logs {
            log.skip_to_last(args, tail)?;
        }
    }
    loop {
        // Asked first: what they said before their end is read after.
        let goes_on = args.follow && logs.iter().any(|log| running::is_running(&log.name));
        // What came just now may be younger than what another log does not have yet.
        let until = width.filter(|_| goes_on).and_then(|_| {
            let now = Timestamp::now();
            now.checked_sub(SignedDuration::try_from(PERIOD).ok()?).ok()
        });
        while let Some((name, line)) = next(args, &mut logs, until)? {
            show(args, width, name, line)?;
        }
        io::stdout().flush()?;
        if !goes_on {
            break;
        }
        thread::sleep(PERIOD);
    }
    for log in &mut logs {
        let rest = log.reader.rest();
        if let Some(line) = rest.and_then(|rest| Line::of(args, rest)) {
            show(args, width, &log.name, line)?;
        }
    }
    Ok(io::stdout().flush()?)
}

/// The oldest line that has not been shown, unless it came after `until`, and whose it is.
fn next<'a>(
    args: &Args,
    logs: &'a mut [Log],
    until: Option<Timestamp>,
) -> Result<Option<(&'a str, Line)>> {
    let mut oldest: Option<(usize, Option<Timestamp>)> = None;
    for (nth, log) in logs.iter_mut().enumerate() {
        if let Some(line) = log.peek(args)? {
            let time = line.time();
            let is_late = until.is_some_and(|until| time > Some(until));
            if !is_late && oldest.is_none_or(|(_, than)| time < than) {
                oldest = Some((nth, time));
            }
        }
    }
    let log = oldest.and_then(|(nth, _)| logs.get_mut(nth));
    Ok(log.and_then(|log| Some((log.name.as_str(), log.waiting.pop_front()?))))
}

/// A log that is being shown.
struct Log {
    name: String,
    reader: Reader,
    /// Read and not shown.
    waiting: VecDeque<Line>,
}

impl Log {
    fn open(args: &Args, record: &Record) -> Self {
        let folder = record.logs();
        let path = match () {
            () if args.console => logs::console(&folder),
            () if args.mvm => logs::monitor(&folder),
            () => logs::output(&folder),
        };
        Self {
            name: record.name(),
            reader: Reader::open(&path),
            waiting: VecDeque::new(),
        }
    }

    /// Reads what there is, and keeps the last lines of it.
    fn skip_to_last(&mut self, args: &Args, count: usize) -> Result<()> {
        while let Some(line) = self.read(args)? {
            self.waiting.push_back(line);
            if self.waiting.len() > count {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }

    /// The next line that is asked for, if it has come.
    fn peek(&mut self, args: &Args) -> Result<Option<&Line>> {
        if self.waiting.is_empty() {
            let line = self.read(args)?;
            self.waiting.extend(line);
        }
        Ok(self.waiting.front())
    }

    fn read(&mut self, args: &Args) -> Result<Option<Line>> {
        while let Some(line) = self.reader.next_line().context("cannot read the log")? {
            if let Some(line) = Line::of(args, line) {
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

    fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Plain(_) => None,
            Self::Kept(entry) => Some(entry.time),
        }
    }
}

/// A line with `--json`.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Shows a line. `width`: room for the names, if there is more than one.
fn show(args: &Args, width: Option<usize>, name: &str, line: Line) -> Result<()> {
    if let (Line::Kept(entry), true) = (&line, args.json) {
        let line = serde_json::to_string(&Told { name, entry })? + "\n";
        return Ok(io::stdout().write_all(line.as_bytes())?);
    }
    let mut shown = Vec::new();
    if let Some(width) = width {
        write!(shown, "{name:width$} | ")?;
    }
    if let Some(time) = line.time().filter(|_| args.timestamps) {
        write!(shown, "{time:.6} ")?;
    }
    let is_error = matches!(&line, Line::Kept(entry) if entry.stream == Stream::Stderr);
    match line {
        Line::Plain(bytes) => shown.extend(bytes),
        Line::Kept(entry) => shown.extend(entry.text.into_bytes()),
    }
    // A line without an end is nobody else's beginning.
    if width.is_some() && !shown.ends_with(b"\n") {
        shown.push(b'\n');
    }
    if is_error {
        io::stderr().write_all(&shown)?;
    } else {
        io::stdout().write_all(&shown)?;
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
