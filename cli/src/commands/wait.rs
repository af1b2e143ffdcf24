//! `mvm wait`: until a machine has ended.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::start::for_each;
use crate::control::client;
use crate::machines::{self, Machine, Record, running};
use crate::state::{State, Status};

/// How often one that was never started is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// Wait until machines have ended, and print the exit status of each
///
/// Of one that has ended already, the last status is printed. One that is started again by its
/// policy has not ended, and one that was never started is waited for until it was, and has ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Args {
    /// Whether one of the machines was never started.
    pub fn is_early(&self) -> bool {
        let is_early = |machine: &Machine| {
            let state = State::of(machine);
            state.is_ok_and(|state| state.status == Status::Created)
        };
        let found = self.names.iter().map(|name| machines::find(name));
        found.flatten().any(|machine| is_early(&machine))
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        Ok(wait(&machines::find(name)?)?.to_string())
    })
}

fn wait(machine: &Machine) -> Result<u8> {
    let name = &machine.name;
    let mut told = None;
    if State::of(machine)?.status == Status::Created {
        await_start(name)?;
    }
    if running::is_running(name) {
        // Nobody answers for one that is between two runs.
        told = client::wait(name).ok().flatten();
        running::await_end(name)?;
    }
    // What is kept is the last end of several.
    let kept = machine.record.as_ref().map(Record::end).transpose()?;
    match kept.flatten().or(told) {
        Some(end) => Ok(end.status),
        None => bail!("nobody knows how {name} ended: its monitor was killed"),
    }
}

/// Until somebody has started the machine.
fn await_start(name: &str) -> Result<()> {
    loop {
        let machine = Machine::named(name);
        ensure!(
            machine.is_running || machine.record.is_some(),
            "{name} was removed before it was started"
        );
        if State::of(&machine)?.status != Status::Created {
            return Ok(());
        }
        thread::sleep(PERIOD);
    }
}
