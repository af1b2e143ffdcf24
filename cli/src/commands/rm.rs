//! `mvm rm`, `mvm prune`: forgetting machines.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use vmm::store;

use super::start::for_each;
use super::stop::{Timeout, kill, stop};
use crate::image;
use crate::machines::{self, Machine, Running, running};
use crate::networks;
use crate::output::{print, print_json};

/// Remove machines that have ended, with their logs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Kill those that run
    #[arg(long, short)]
    force: bool,
}

/// Stop machines and remove them
#[derive(Debug, clap::Args)]
pub struct DestroyArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    timeout: Timeout,
}

/// Remove all machines that do not run, what crashes have left, images that no machine is of, and what is
/// kept of stores
///
/// What a machine has of its store as memory stays its own; when it starts again, it is made again.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// Print a JSON list of what was removed
    #[arg(long)]
    json: bool,
}

/// Runs `mvm rm`.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::called(name)?;
        if machine.is_running {
            ensure!(
                args.force,
                "{name} runs; `mvm stop {name}` first, or --force to kill it"
            );
            kill(&machine)?;
        }
        forget(&machine)?;
        Ok(machine.name)
    })
}

/// Runs `mvm destroy`.
pub fn destroy(args: &DestroyArgs) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::called(name)?;
        stop_and_forget(&machine, &args.timeout)?;
        Ok(machine.name)
    })
}

/// Ends a machine if it runs, and removes what is kept of it, if anything.
///
/// # Errors
/// It cannot be ended, or somebody starts it again.
pub fn stop_and_forget(machine: &Machine, timeout: &Timeout) -> Result<()> {
    if machine.is_running {
        stop(machine, timeout)?;
    }
    forget(machine)
}

/// Runs `mvm prune`.
pub fn prune(args: &PruneArgs) -> Result<ExitCode> {
    running::sweep()?;
    networks::sweep()?;
    let mut removed = Vec::new();
    for machine in machines::all()? {
        if !machine.is_running {
            forget(&machine)?;
            removed.push(machine.name);
        }
    }
    let left = machines::all()?;
    let files: Vec<_> = left
        .iter()
        .filter_map(|machine| machines::Record::open(&machine.name))
        .map(|record| record.app_file())
        .collect::<Result<_>>()?;
    image::prune(files.iter().map(|file| &file.app))?;
    store::prune()?;
    if args.json {
        print_json(&removed)?;
    } else {
        for name in removed {
            print(format!("{name}\n").as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes what is kept of a machine. Nobody can start it meanwhile.
///
/// # Errors
/// It runs, or cannot be removed.
pub fn forget(machine: &Machine) -> Result<()> {
    let Some(_running) = Running::claim(&machine.name)? else {
        bail!("{} was started meanwhile", machine.name);
    };
    // One that was to go at its end, or ran in the foreground, has gone.
    match machines::Record::open(&machine.name) {
        Some(record) => record.remove(),
        None => Ok(()),
    }
}
