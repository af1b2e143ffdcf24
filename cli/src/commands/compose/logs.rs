//! `mvm compose logs`: what the services have said.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;

use super::members_of;
use crate::commands::logs::{How, Log, Logs, print};
use crate::compose::{Scope, colour};

/// Print what the services have said, in the order of the times, each line behind its service's name
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    how: How,
    /// Only those of these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let members = members_of(scope, &args.services)?;
    let is_terminal = io::stdout().is_terminal();
    let mut logs = Vec::new();
    for (nth, member) in members.iter().enumerate() {
        let log = Log::open(&args.how, member.machine.kept()?, member.shown());
        logs.push(log.coloured(colour(nth, is_terminal)));
    }
    let width = members.iter().map(|member| member.shown().len()).max();
    print(Logs::new(&args.how, logs, width))
}
