//! `mvm wait`: until a machine has ended.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::start::for_each;
use crate::control::client;
use crate::machines::{self, Machine, running};

/// Wait until machines have ended, and print the exit status of each
///
/// Of one that has ended already, the last status is printed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        Ok(wait(&machines::find(name)?)?.to_string())
    })
}

fn wait(machine: &Machine) -> Result<u8> {
    let name = &machine.name;
    let told = if machine.is_running {
        let told = client::wait(name)?;
        running::await_end(name)?;
        told
    } else {
        None
    };
    if let Some(end) = told {
        return Ok(end.status);
    }
    match machine
        .record
        .as_ref()
        .map(machines::Record::end)
        .transpose()?
        .flatten()
    {
        Some(end) => Ok(end.status),
        None => bail!("nobody knows how {name} ended: its monitor was killed, or it has never run"),
    }
}
