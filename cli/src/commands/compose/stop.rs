//! `mvm compose stop`: the services' machines, which stay.

use std::process::ExitCode;

use anyhow::Result;

use super::chosen::{Chosen, Services};
use crate::commands::stop::Timeout;
use crate::compose::Scope;
use crate::output::print;

/// Stop services; their machines stay, for `mvm compose start` and `mvm up`
///
/// Those first that need others. Prints the machines' names.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    timeout: Timeout,
    #[command(flatten)]
    services: Services,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let chosen = Chosen::of(scope, &args.services)?;
    chosen.stop(&args.timeout, |member| {
        print(format!("{}\n", member.machine.name).as_bytes())
    })?;
    Ok(ExitCode::SUCCESS)
}
