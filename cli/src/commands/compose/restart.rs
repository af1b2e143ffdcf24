//! `mvm compose restart`: services, stopped and started again.

use std::process::ExitCode;

use anyhow::Result;

use super::chosen::{Chosen, Services};
use crate::commands::stop::Timeout;
use crate::compose::Scope;
use crate::events::{self, Happened};

/// Stop services and start them again, as they are
///
/// Those that need others are stopped first and started last. What the file says by now counts with
/// `mvm up` alone.
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
    chosen.stop(&args.timeout, |_| Ok(()))?;
    for name in chosen.start()? {
        events::note(&name, Happened::Restarted);
    }
    Ok(ExitCode::SUCCESS)
}
