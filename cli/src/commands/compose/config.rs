//! `mvm compose config`: the file as it is understood.

use std::process::ExitCode;

use anyhow::Result;

use crate::compose::Scope;
use crate::output::{print, print_json};

/// Print the file with its variables, the defaults in each service, and absolute paths
///
/// What is printed is a compose.json that says the same wherever it lies.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the names of the services alone, each after those that it needs
    #[arg(long)]
    services: bool,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let file = scope.load()?;
    if args.services {
        for service in file.project.order() {
            print(format!("{service}\n").as_bytes())?;
        }
    } else {
        print_json(&file.project.to_json()?)?;
    }
    Ok(ExitCode::SUCCESS)
}
