//! `mvm compose start`: services that were stopped.

use std::process::ExitCode;

use anyhow::Result;

use super::restart::Chosen;
use crate::compose::Scope;

/// Start services that were stopped, as they are
///
/// Each after those that it needs. What the file says by now counts with `mvm up` alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The services; by default all that have machines
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    Chosen::of(scope, &args.services)?.start()?;
    Ok(ExitCode::SUCCESS)
}
