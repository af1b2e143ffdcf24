//! `mvm compose exec`: one more program in a service's machine.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::ensure_known;
use crate::commands::exec::{How, run_in};
use crate::compose::Scope;
use crate::machines::Machine;

/// Run one more program in a service's machine
///
/// It has this command's input, and a terminal if this command has one.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    how: How,
    /// Give it no terminal, also if this command has one
    #[arg(long, short = 'T', conflicts_with = "tty")]
    no_tty: bool,
    /// Which of its machines, from 1
    #[arg(long, default_value_t = 1, value_name = "N")]
    index: u32,
    /// The service
    service: String,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let project = scope.load()?.project;
    ensure_known(&project, std::slice::from_ref(&args.service))?;
    let name = project.machine_name(&args.service, args.index);
    ensure!(Machine::named(&name).is_running, "{name} does not run");
    run_in(&name, &args.how.clone().at_hand(args.no_tty), &args.command)
}
