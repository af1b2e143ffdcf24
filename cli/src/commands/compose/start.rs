//! `mvm compose start`: services that were stopped.

use std::process::ExitCode;

use anyhow::Result;

use super::chosen::{Chosen, Services};
use crate::compose::Scope;

/// Start services that were stopped, as they are
///
/// Each after those that it needs. What the file says by now counts with `mvm up` alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    services: Services,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    Chosen::of(scope, &args.services)?.start()?;
    Ok(ExitCode::SUCCESS)
}
