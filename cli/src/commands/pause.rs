//! `mvm pause`, `mvm unpause`: a machine's processors, stopped and started.

use std::process::ExitCode;

use anyhow::Result;

use super::start::for_each;
use crate::control::client;
use crate::control::message::Request;
use crate::machines;

/// Stop the processors of machines
///
/// The guest does not notice, but its clock jumps to the host's time when it goes on.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Start the processors of paused machines again
#[derive(Debug, clap::Args)]
pub struct UnpauseArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Runs `mvm pause`.
pub fn pause(args: &PauseArgs) -> Result<ExitCode> {
    order(&args.names, &Request::Pause)
}

/// Runs `mvm unpause`.
pub fn unpause(args: &UnpauseArgs) -> Result<ExitCode> {
    order(&args.names, &Request::Resume)
}

fn order(names: &[String], request: &Request) -> Result<ExitCode> {
    for_each(names, |name| {
        let machine = machines::find(name)?;
        machine.ensure_running()?;
        client::order(&machine.name, request)?;
        Ok(machine.name)
    })
}
