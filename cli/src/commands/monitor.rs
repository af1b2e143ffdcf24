//! `mvm monitor`, `mvm supervise`: the processes of a machine in the background.

use std::process::ExitCode;

use crate::{detach, supervise};

/// Run a kept machine; standard input is the socket to whoever started it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
    /// Below a supervisor
    #[arg(long)]
    supervised: bool,
}

/// Run a kept machine again and again
#[derive(Debug, clap::Args)]
pub struct SuperviseArgs {
    /// The machine
    name: String,
}

/// Runs `mvm monitor`.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(detach::carry_out(&args.name, args.supervised)?.into())
}

/// Runs `mvm supervise`.
pub fn supervise(args: &SuperviseArgs) -> anyhow::Result<ExitCode> {
    Ok(supervise::carry_out(&args.name)?.into())
}
