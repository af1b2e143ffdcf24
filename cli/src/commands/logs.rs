//! `mvm logs`: what kept machines have said.

mod lines;

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::inspect::those_there;
use crate::machines;

pub use lines::{Log, Logs};

/// How often a log is looked at that is followed.
pub const PERIOD: Duration = Duration::from_millis(200);

/// Print what the programs of machines have said
///
/// Standard output goes to standard output, errors to standard error. Of several machines the lines
/// are in the order of their times, each behind its machine's name. Of those that are not there it
/// says so, and exits with 1.
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
    /// Only the last lines of each machine, or "all"
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        allow_negative_numbers = true,
        default_value = "all",
        hide_default_value = true
    )]
    tail: Tail,
    /// Only what came at this time or later: a date with or without a time, of UTC unless it says
    /// another zone, seconds since 1970, or a duration such as 10m or 1h30m before now
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

/// How many of the last lines are printed; none: all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail(Option<usize>);

impl FromStr for Tail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        match text.strip_prefix('-') {
            _ if text == "all" => Ok(Self(None)),
            // As in Docker.
            Some(number) if !number.is_empty() && is_number(number) => Ok(Self(None)),
            None if !text.is_empty() && is_number(text) => {
                // More than can be counted is all.
                Ok(Self(text.parse().ok()))
            }
            _ => Err("must be a number of lines or all"),
        }
    }
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
    let (mut machines, status) = those_there(&args.names, |name| machines::find(name));
    if machines.is_empty() {
        return Ok(status);
    }
    machines.sort_by(|one, other| one.name.cmp(&other.name));
    machines.dedup_by(|one, other| one.name == other.name);
    let logs = machines.iter().map(|machine| {
        let record = machine.kept()?;
        Ok(Log::open(&args.how, record, &machine.name))
    });
    let logs: Vec<Log> = logs.collect::<Result<_>>()?;
    let names = logs.iter().map(|log| log.shown().len());
    let width = names.max().filter(|_| logs.len() > 1);
    print(Logs::new(&args.how, logs, width))?;
    Ok(status)
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

/// A date with or without a time, seconds since 1970, or a duration before now.
pub fn time(text: &str) -> Result<Timestamp> {
    let out_of_range = || format!("{text:?} is out of range");
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    // Of a date alone, the beginning of the day.
    if let Ok(date) = text.parse::<DateTime>() {
        let time = date.to_zoned(TimeZone::UTC).with_context(out_of_range)?;
        return Ok(time.timestamp());
    }
    if let Some(since_1970) = seconds(text) {
        return Timestamp::from_duration(since_1970).with_context(out_of_range);
    }
    let Ok(duration) = text.parse::<SignedDuration>() else {
        bail!(
            "must be a time such as 2026-01-31T12:00:00Z or 2026-01-31, seconds since 1970, or a \
             duration such as 10m"
        );
    };
    let then = Timestamp::now().checked_sub(duration);
    then.with_context(out_of_range)
}

/// A plain number of seconds, with up to nine places behind the point.
fn seconds(text: &str) -> Option<SignedDuration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Some(SignedDuration::new(whole.parse().ok()?, nanoseconds))
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
        let then = time("1h30m").unwrap();
        let age = Timestamp::now().duration_since(then);
        assert!((5400..5460).contains(&age.as_secs()));
    }

    #[test]
    fn a_date_needs_no_time_and_a_number_is_seconds_since_1970() {
        let at = |text| time(text).unwrap().to_string();
        assert_eq!(at("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(at("2026-01-31T12:30:00"), "2026-01-31T12:30:00Z");
        assert_eq!(at("2026-01-31 12:30"), "2026-01-31T12:30:00Z");
        assert_eq!(at("2026-01-31T12:30:00+02:00"), "2026-01-31T10:30:00Z");
        assert_eq!(at("1769860800"), "2026-01-31T12:00:00Z");
        assert_eq!(at("1769860800.25"), "2026-01-31T12:00:00.25Z");
        for wrong in [
            "yesterday",
            "",
            "-",
            "1.",
            ".5",
            "99999999999999",
            "2026-02-30",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_lines_may_be_all() {
        let tail = |text: &str| text.parse::<Tail>().map(|tail| tail.0);
        assert_eq!(tail("0"), Ok(Some(0)));
        assert_eq!(tail("20"), Ok(Some(20)));
        for all in ["all", "-1", "99999999999999999999999"] {
            assert_eq!(tail(all), Ok(None), "{all}");
        }
        for wrong in ["", "-", "x", "-x", "1.5"] {
            assert!(tail(wrong).is_err(), "{wrong}");
        }
    }
}
