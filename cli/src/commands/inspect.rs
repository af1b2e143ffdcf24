//! `mvm inspect`, `mvm status`: all that is known of machines.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use vmm::app::{App, Port, StoreData};

use crate::cgroup::Usage;
use crate::control::message::Health;
use crate::control::{client, statistics};
use crate::machines::record::End;
use crate::machines::{self, Machine};
use crate::output::{print, print_json, say};
use crate::state::{State, Status, age};

/// Print all that is known of machines, as a JSON list
///
/// Of those that are not there it says so, and exits with 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Tell in a line how a machine does
///
/// Exits with 0 if it runs, else with 3.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The machine
    name: String,
}

/// What `systemctl status` exits with for a unit that does not run.
const NOT_RUNNING: u8 = 3;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected {
    name: String,
    status: Status,
    created: Option<Timestamp>,
    source: Option<PathBuf>,
    remove_at_end: Option<bool>,
    started: Option<Timestamp>,
    pid: Option<u32>,
    /// Of the host's, that lead to it.
    ports: Vec<Port>,
    addresses: Vec<IpAddr>,
    ready: Option<bool>,
    health: Option<Health>,
    /// What its program says of itself.
    status_text: Option<String>,
    /// How its store comes to it.
    store_data: Option<StoreData>,
    /// Why so, unless its file says it.
    store_data_reason: Option<String>,
    restarts: u32,
    end: Option<End>,
    logs: Option<PathBuf>,
    memory: Option<Memory>,
    cgroup: Option<Usage>,
    app: Option<App>,
}

/// What of the host's memory it has, as `mvm stats` tells it, and what its monitor may take at most
/// besides the guest's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "their unit")]
struct Memory {
    resident_bytes: u64,
    guest_bytes: u64,
    overhead_bytes: u64,
    overhead_max_bytes: u64,
}

impl Memory {
    fn new(measured: &statistics::Memory, overhead_max_bytes: u64) -> Self {
        let bytes = |kib: u64| kib.saturating_mul(1024);
        Self {
            resident_bytes: bytes(measured.resident_kib),
            guest_bytes: bytes(measured.guest_kib),
            overhead_bytes: bytes(measured.overhead_kib),
            overhead_max_bytes,
        }
    }
}

/// What `act` makes of each of `names`, and the status to exit with: one that fails is told, and does
/// not keep the others from it.
pub fn those_there<T>(names: &[String], act: impl Fn(&String) -> Result<T>) -> (Vec<T>, ExitCode) {
    let mut status = ExitCode::SUCCESS;
    let made = names.iter().filter_map(|name| {
        act(name)
            .inspect_err(|error| {
                say(format_args!("{error:#}"));
                status = ExitCode::FAILURE;
            })
            .ok()
    });
    (made.collect(), status)
}

/// Runs `mvm inspect`.
pub fn run(args: &Args) -> Result<ExitCode> {
    let inspect = |name: &String| inspected(&machines::find(name)?);
    let (all, status) = those_there(&args.names, inspect);
    print_json(&all)?;
    Ok(status)
}

fn inspected(machine: &Machine) -> Result<Inspected> {
    let state = State::of(machine)?;
    let facts = state.facts;
    let info = state.info;
    // One that ends meanwhile does not answer.
    let measured = info
        .as_ref()
        .and_then(|_| client::statistics(&machine.name).ok());
    let overhead_max_bytes = state.app.as_ref().map_or(0, App::overhead_bytes);
    Ok(Inspected {
        name: state.name,
        status: state.status,
        created: facts.as_ref().map(|facts| facts.created),
        source: facts.as_ref().and_then(|facts| facts.source.clone()),
        remove_at_end: facts.map(|facts| facts.remove_at_end),
        started: info.as_ref().map(|info| info.started),
        pid: info.as_ref().map(|info| info.pid),
        ports: info
            .as_ref()
            .map(|info| info.ports.clone())
            .unwrap_or_default(),
        addresses: info
            .as_ref()
            .map(|info| info.addresses.clone())
            .unwrap_or_default(),
        ready: info.as_ref().map(|info| info.ready),
        status_text: info.as_ref().and_then(|info| info.status_text.clone()),
        store_data: info.as_ref().and_then(|info| info.store_data),
        store_data_reason: info
            .as_ref()
            .and_then(|info| info.store_data_reason.clone()),
        health: info.and_then(|info| info.health),
        restarts: state.restarts,
        end: state.end,
        logs: machine.record.as_ref().map(machines::Record::logs),
        memory: measured.map(|measured| Memory::new(&measured.memory, overhead_max_bytes)),
        cgroup: Usage::of(&machines::running::cgroup_of(&machine.name)),
        app: state.app,
    })
}

/// Runs `mvm status`.
pub fn status(args: &StatusArgs) -> Result<ExitCode> {
    let machine = machines::find(&args.name)?;
    let state = State::of(&machine)?;
    let since = match state.since() {
        Some(since) => format!(", since {}", age(since)),
        None => String::new(),
    };
    print(format!("{}: {state}{since}\n", state.name).as_bytes())?;
    Ok(if machine.is_running {
        ExitCode::SUCCESS
    } else {
        NOT_RUNNING.into()
    })
}
