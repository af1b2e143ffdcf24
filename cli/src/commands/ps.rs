//! `mvm ps`: the machines of this user.

mod filter;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use vmm::app::Port;

use filter::Filter;

use super::port;
use crate::control::message::HealthStatus;
use crate::machines::{self, Machine};
use crate::output::{print, print_json};
use crate::state::{State, Status, age};
use crate::table::table;

/// List machines: those that run, or all
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that are so: name=PART, status=STATUS, health=starting, healthy, unhealthy or none,
    /// label=NAME or label=NAME=TEXT. Of several with the same key one must hold, but all of labels.
    /// With a status also those that do not run
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Only the last N that were made, the newest first, also those that do not run
    #[arg(long, short = 'n', value_name = "N")]
    last: Option<usize>,
    /// Only the last one that was made, also if it does not run
    #[arg(long, short, conflicts_with = "last")]
    latest: bool,
    #[command(flatten)]
    how: How,
}

/// How a list of machines is printed.
#[derive(Debug, clap::Args)]
// A group is named by its type, and each command has such a one.
#[group(skip)]
pub struct How {
    /// Also those that do not run
    #[arg(long, short)]
    all: bool,
    /// Print names alone
    #[arg(long, short)]
    quiet: bool,
    /// Print a JSON list
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// A machine with `--json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    labels: BTreeMap<String, String>,
    status: Status,
    /// Seconds for which it has been so.
    since_seconds: Option<i64>,
    exit_status: Option<u8>,
    health: Option<HealthStatus>,
    ready: Option<bool>,
    restarts: u32,
    vcpus: Option<u32>,
    memory_mib: Option<u64>,
    /// Of the host's, that lead to it.
    ports: Vec<Port>,
    pid: Option<u32>,
    /// Whether something of it is left when it ends.
    kept: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut machines = machines::all()?;
    machines.retain(|machine| args.wants_all() || machine.is_running);
    if args.how.quiet && args.filter.is_empty() && args.most().is_none() {
        // No machine need be asked.
        return print_names(machines.iter().map(|machine| &machine.name));
    }
    let mut states = machines.iter().map(State::of).collect::<Result<Vec<_>>>()?;
    states.retain(|state| filter::want(&args.filter, state));
    if let Some(most) = args.most() {
        states.sort_by_key(|state| Reverse(state.created()));
        states.truncate(most);
    }
    print_states(&args.how, &states)
}

/// Prints those of `machines` that are to be in the list.
///
/// # Errors
/// What is kept of one cannot be read.
pub fn list(how: &How, machines: &[Machine]) -> Result<ExitCode> {
    let listed = machines
        .iter()
        .filter(|machine| how.all || machine.is_running);
    print_states(how, &listed.map(State::of).collect::<Result<Vec<_>>>()?)
}

fn print_states(how: &How, states: &[State]) -> Result<ExitCode> {
    if how.quiet {
        return print_names(states.iter().map(|state| &state.name));
    }
    if how.json {
        print_json(&states.iter().map(row).collect::<Vec<_>>())?;
    } else {
        let heads = ["NAME", "STATUS", "SINCE", "VCPUS", "MEMORY", "PORTS"];
        let cells: Vec<_> = states.iter().map(cells).collect();
        print(table(heads, &cells).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn wants_all(&self) -> bool {
        self.how.all || self.most().is_some() || self.filter.iter().any(Filter::is_of_any)
    }

    /// As many as there shall be at most.
    fn most(&self) -> Option<usize> {
        self.last.or(self.latest.then_some(1))
    }
}

fn print_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<ExitCode> {
    for name in names {
        print(format!("{name}\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(state: &State) -> Row {
    Row {
        name: state.name.clone(),
        labels: state
            .app
            .as_ref()
            .map(|app| app.labels.clone())
            .unwrap_or_default(),
        status: state.status,
        since_seconds: state.since().map(|since| since.as_secs()),
        exit_status: state.end.as_ref().map(|end| end.status),
        health: state.health(),
        ready: state.info.as_ref().map(|info| info.ready),
        restarts: state.restarts,
        vcpus: state.app.as_ref().map(|app| app.vcpus),
        memory_mib: state.app.as_ref().map(vmm::app::App::memory_mib),
        ports: ports(state).to_vec(),
        pid: state.info.as_ref().map(|info| info.pid),
        kept: state.facts.is_some(),
    }
}

fn cells(state: &State) -> [String; 6] {
    let app = state.app.as_ref();
    [
        state.name.clone(),
        state.to_string(),
        state.since().map(age).unwrap_or_default(),
        app.map(|app| app.vcpus.to_string()).unwrap_or_default(),
        app.map(|app| format!("{} MiB", app.memory_mib()))
            .unwrap_or_default(),
        port::summary(ports(state)),
    ]
}

/// Only a machine that runs has any.
fn ports(state: &State) -> &[Port] {
    state.info.as_ref().map_or(&[], |info| &info.ports)
}
