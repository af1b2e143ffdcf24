//! `mvm metrics`: what machines have used and done, for a program that collects such numbers.

mod families;

use std::process::ExitCode;

use anyhow::Result;
use families::Families;

use crate::machines;
use crate::output::{print, say};

/// Print what machines have used and done, in the format of `OpenMetrics`
///
/// Prometheus and its like read it, for instance from a file that its node exporter collects.
/// Without names, all that run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machines = if args.names.is_empty() {
        machines::all()?
    } else {
        let found = args.names.iter().map(|name| machines::find(name));
        found.collect::<Result<_>>()?
    };
    let mut families = Families::new();
    let mut status = ExitCode::SUCCESS;
    for machine in machines {
        if args.names.is_empty() && !machine.is_running {
            continue;
        }
        let added = machine
            .ensure_running()
            .and_then(|()| families.ask(&machine.name));
        if let Err(error) = added {
            say(format_args!("{error:#}"));
            status = crate::FAILED.into();
        }
    }
    print(families.text().as_bytes())?;
    Ok(status)
}
