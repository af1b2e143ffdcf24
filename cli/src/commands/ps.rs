//! `mvm ps`: the machines of this user.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use vmm::app::Port;

use super::port;
use crate::control::message::HealthStatus;
use crate::machines;
use crate::output::{print, print_json};
use crate::state::{State, Status, age};
use crate::table::table;

/// List machines: those that run, or all
#[derive(Debug, clap::Args)]
pub struct Args {
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
    machines.retain(|machine| args.all || machine.is_running);
    if args.quiet {
        for machine in machines {
            print(format!("{}\n", machine.name).as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let states = machines.iter().map(State::of).collect::<Result<Vec<_>>>()?;
    if args.json {
        print_json(&states.iter().map(row).collect::<Vec<_>>())?;
    } else {
        let heads = ["NAME", "STATUS", "SINCE", "VCPUS", "MEMORY", "PORTS"];
        let cells: Vec<_> = states.iter().map(cells).collect();
        print(table(heads, &cells).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(state: &State) -> Row {
    Row {
        name: state.name.clone(),
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
