//! `mvm monitor`: the process of a machine in the background.

use std::process::ExitCode;

use crate::detach;

/// Run a kept machine; standard input is the socket to whoever started it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(detach::carry_out(&args.name)?.into())
}
