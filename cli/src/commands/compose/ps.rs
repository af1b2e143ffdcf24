//! `mvm compose ps`: the machines of a project.

use std::process::ExitCode;

use anyhow::Result;

use super::members_of;
use crate::commands::ps::{How, list};
use crate::compose::Scope;

/// List the machines of the project: those that run, or all
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
    let members = members_of(scope, &args.services)?.into_iter();
    let machines: Vec<_> = members.map(|member| member.machine).collect();
    list(&args.how, &machines)
}
