//! The lines of several logs, in the order of their times.

use std::collections::VecDeque;
use std::io::{self, Write};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{How, PERIOD};
use crate::logs::{self, Entry, Reader, Stream};
use crate::machines::{Record, running};

/// Logs that are being shown.
pub struct Logs<'a> {
    how: &'a How,
    shown: Vec<Log>,
    width: Option<usize>,
}

impl<'a> Logs<'a> {
    /// `width`: room for the names before the lines; none for no names.
    pub fn new(how: &'a How, logs: Vec<Log>, width: Option<usize>) -> Self {
        Self {
            how,
            shown: logs,
            width,
        }
    }

    /// One more.
    pub fn push(&mut self, log: Log) {
        self.shown.push(log);
    }

    /// Whether the log of that machine is among them.
    pub fn has(&self, machine: &str) -> bool {
        self.shown.iter().any(|log| log.machine == machine)
    }

    /// Whether they are followed, and a machine runs whose log may grow.
    pub fn go_on(&self) -> bool {
        self.how.follow
            && self
                .shown
                .iter()
                .any(|log| running::is_running(&log.machine))
    }

    /// Passes over all but the last lines, where only those were asked for.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn skip_to_last(&mut self) -> Result<()> {
        if let Some(tail) = self.how.tail.0 {
            for log in &mut self.shown {
                log.skip_to_last(self.how, tail)?;
            }
        }
        Ok(())
    }

    /// Prints what has come. `goes_on`: more may come.
    ///
    /// # Errors
    /// A log cannot be read, or nobody takes what it says.
    pub fn print_new(&mut self, goes_on: bool) -> Result<()> {
        // What came just now may be younger than what another log does not have yet.
        let until = self.width.filter(|_| goes_on).and_then(|_| {
            let now = Timestamp::now();
            now.checked_sub(SignedDuration::try_from(PERIOD).ok()?).ok()
        });
        while let Some((log, line)) = next(self.how, &mut self.shown, until)? {
            show(self.how, self.width, log, line)?;
        }
        Ok(io::stdout().flush()?)
    }

    /// Prints lines that have no end.
    ///
    /// # Errors
    /// Nobody takes them.
    pub fn print_rest(&mut self) -> Result<()> {
        for log in &mut self.shown {
            let rest = log.reader.rest();
            if let Some(line) = rest.and_then(|rest| Line::of(self.how, rest)) {
                show(self.how, self.width, log, line)?;
            }
        }
        Ok(io::stdout().flush()?)
    }
}

/// The oldest line that has not been shown, unless it came after `until`, and whose it is.
fn next<'a>(
    how: &How,
    logs: &'a mut [Log],
    until: Option<Timestamp>,
) -> Result<Option<(&'a Log, Line)>> {
    let mut oldest: Option<(usize, Option<Timestamp>)> = None;
    for (nth, log) in logs.iter_mut().enumerate() {
        if let Some(line) = log.peek(how)? {
            let time = line.time();
            let is_late = until.is_some_and(|until| time > Some(until));
            if !is_late && oldest.is_none_or(|(_, than)| time < than) {
                oldest = Some((nth, time));
            }
        }
    }
    let Some(log) = oldest.and_then(|(nth, _)| logs.get_mut(nth)) else {
        return Ok(None);
    };
    let line = log.waiting.pop_front();
    Ok(line.map(|line| (&*log, line)))
}

/// A log that is being shown.
pub struct Log {
    machine: String,
    shown: String,
    /// Of the name where it is shown, as a terminal has it.
    colour: Option<u8>,
    reader: Reader,
    /// Read and not shown.
    waiting: VecDeque<Line>,
}

impl Log {
    /// The log of a machine, which is called `shown` before its lines.
    pub fn open(how: &How, record: &Record, shown: &str) -> Self {
        let folder = record.logs();
        let path = match () {
            () if how.console => logs::console(&folder),
            () if how.mvm => logs::monitor(&folder),
            () => logs::output(&folder),
        };
        Self {
            machine: record.name(),
            shown: shown.into(),
            colour: None,
            reader: Reader::open(&path),
            waiting: VecDeque::new(),
        }
    }

    /// Gives the name before its lines a colour: 1 to 6 of a terminal's eight.
    #[must_use]
    pub fn coloured(mut self, colour: Option<u8>) -> Self {
        self.colour = colour;
        self
    }

    /// The name before its lines.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Reads what there is, and keeps the last lines of it.
    fn skip_to_last(&mut self, how: &How, count: usize) -> Result<()> {
        while let Some(line) = self.read(how)? {
            self.waiting.push_back(line);
            if self.waiting.len() > count {
                self.waiting.pop_front();
            }
        }
        Ok(())
    }

    /// The next line that is asked for, if it has come.
    fn peek(&mut self, how: &How) -> Result<Option<&Line>> {
        if self.waiting.is_empty() {
            let line = self.read(how)?;
            self.waiting.extend(line);
        }
        Ok(self.waiting.front())
    }

    fn read(&mut self, how: &How) -> Result<Option<Line>> {
        while let Some(line) = self.reader.next_line().context("cannot read the log")? {
            if let Some(line) = Line::of(how, line) {
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
    fn of(how: &How, line: Vec<u8>) -> Option<Self> {
        if how.console || how.mvm {
            return Some(Self::Plain(line));
        }
        // One that a crash has cut.
        let entry: Entry = serde_json::from_slice(&line).ok()?;
        let is_late = how.since.is_none_or(|since| entry.time >= since);
        let is_early = how.until.is_none_or(|until| entry.time < until);
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

/// Shows a line. `width`: room for the names, if they are shown.
fn show(how: &How, width: Option<usize>, log: &Log, line: Line) -> Result<()> {
    if let (Line::Kept(entry), true) = (&line, how.json) {
        let name = &log.machine;
        let line = serde_json::to_string(&Told { name, entry })? + "\n";
        return Ok(io::stdout().write_all(line.as_bytes())?);
    }
    let mut shown = Vec::new();
    if let Some(width) = width {
        let name = &log.shown;
        match log.colour {
            Some(colour) => write!(shown, "\x1b[3{colour}m{name:width$} |\x1b[0m ")?,
            None => write!(shown, "{name:width$} | ")?,
        }
    }
    if let Some(time) = line.time().filter(|_| how.timestamps) {
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
