//! `mvm events`: what has happened to machines.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use vmm::app::suggest::instead_of;

use super::logs::{is_broken_pipe, time};
use crate::events::{self, Event, KINDS};
use crate::logs::Reader;

/// How often new events are looked for.
const PERIOD: Duration = Duration::from_millis(200);

/// Print what has happened to machines, oldest first
///
/// Events are created, started, ready, healthy, unhealthy, oom, watchdog, died, restarted, paused,
/// unpaused, stopped and removed. The oldest are forgotten when there are too many.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on until this command is ended
    #[arg(long, short)]
    follow: bool,
    /// Print each as a JSON object
    #[arg(long)]
    json: bool,
    /// Only those at this time or later: a date with or without a time, of UTC unless it says another
    /// zone, seconds since 1970, or a duration such as 10m or 1h30m before now
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only those before this time
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "follow")]
    until: Option<Timestamp>,
    /// Only those of a machine (name=NAME) or of a kind (event=died); of several with the same key
    /// one must hold
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter)]
    filter: Vec<Filter>,
}

/// What an event must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Name(String),
    Kind(String),
}

fn filter(text: &str) -> Result<Filter> {
    match text.split_once('=') {
        Some(("name", name)) => Ok(Filter::Name(name.into())),
        Some(("event", kind)) if KINDS.contains(&kind) => Ok(Filter::Kind(kind.into())),
        Some(("event", kind)) => bail!("unknown event {kind:?}{}", instead_of(kind, &KINDS)),
        _ => bail!("must be name=NAME or event=KIND"),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match print(args) {
        // A reader that has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

fn print(args: &Args) -> Result<()> {
    let mut reader = Reader::open(&events::path()?);
    loop {
        while let Some(line) = reader.next_line().context("cannot read the events")? {
            // A line of a newer mvm's may be of another kind.
            if let Ok(event) = serde_json::from_slice::<Event>(&line)
                && args.want(&event)
            {
                show(args, &event)?;
            }
        }
        io::stdout().flush()?;
        if !args.follow {
            return Ok(());
        }
        thread::sleep(PERIOD);
    }
}

impl Args {
    fn want(&self, event: &Event) -> bool {
        let is_late = self.since.is_none_or(|since| event.time >= since);
        let is_early = self.until.is_none_or(|until| event.time < until);
        let (kind, _) = words(event);
        let names = self.filter.iter().filter_map(|filter| match filter {
            Filter::Name(name) => Some(*name == event.name),
            Filter::Kind(_) => None,
        });
        let kinds = self.filter.iter().filter_map(|filter| match filter {
            Filter::Kind(wanted) => Some(*wanted == kind),
            Filter::Name(_) => None,
        });
        is_late && is_early && one_holds(names) && one_holds(kinds)
    }
}

/// Whether one of them holds, or there is none.
fn one_holds(mut filters: impl Iterator<Item = bool>) -> bool {
    filters
        .next()
        .is_none_or(|first| first || filters.any(|holds| holds))
}

/// An event's kind, and what is said besides.
fn words(event: &Event) -> (String, Vec<String>) {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&event.happened) else {
        return Default::default();
    };
    let mut kind = String::new();
    let mut rest = Vec::new();
    for (key, value) in fields {
        match value {
            serde_json::Value::String(text) if key == "event" => kind = text,
            value => rest.push(format!("{key}={value}")),
        }
    }
    (kind, rest)
}

fn show(args: &Args, event: &Event) -> Result<()> {
    let line = if args.json {
        serde_json::to_string(event)?
    } else {
        let (kind, rest) = words(event);
        let first = [format!("{:.6}", event.time), event.name.clone(), kind];
        [first.as_slice(), &rest].concat().join(" ")
    };
    Ok(writeln!(io::stdout(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;
    use crate::events::Happened;

    fn args(filters: &[&str]) -> Args {
        Args {
            follow: false,
            json: false,
            since: Some(Timestamp::UNIX_EPOCH),
            until: None,
            filter: filters.iter().map(|text| filter(text).unwrap()).collect(),
        }
    }

    fn died(name: &str) -> Event {
        Event {
            time: Timestamp::UNIX_EPOCH,
            name: name.into(),
            happened: Happened::Died {
                status: 3,
                reason: Some("a b".into()),
            },
        }
    }

    #[test]
    fn of_each_key_one_filter_must_hold() {
        assert!(args(&[]).want(&died("web")));
        assert!(args(&["name=db", "name=web", "event=died"]).want(&died("web")));
        assert!(!args(&["name=web", "event=started"]).want(&died("web")));
        assert!(!args(&["name=db"]).want(&died("web")));
        assert!(filter("colour=red").is_err());
    }

    #[test]
    fn a_kind_that_there_is_not_is_an_error_with_the_one_that_was_meant() {
        let error = filter("event=dyed").unwrap_err().to_string();
        let start = "unknown event \"dyed\"; did you mean \"died\"? allowed: created, ";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn help_names_all_kinds() {
        let command = Args::augment_args(clap::Command::new("events"));
        let help = command.get_long_about().unwrap().to_string();
        let words: Vec<_> = help.split(|c: char| !c.is_alphabetic()).collect();
        for kind in KINDS {
            assert!(words.contains(&kind), "{kind}: {help}");
        }
    }

    #[test]
    fn what_is_said_besides_comes_behind_the_kind() {
        let (kind, rest) = words(&died("web"));
        assert_eq!(kind, "died");
        assert_eq!(rest, ["reason=\"a b\"", "status=3"]);
    }
}
