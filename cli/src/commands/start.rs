//! `mvm start`, `mvm restart`: kept machines, run again.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::stop::{self, Timeout};
use crate::detach;
use crate::machines::{self, Record};
use crate::output::{print, say};

/// Start machines that are kept
///
/// Prints the name of each once its program runs. One that runs is left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Stop machines and start them again
#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    timeout: Timeout,
}

/// Runs `mvm start`.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::find(name)?;
        if !machine.is_running {
            start(machine.kept()?)?;
        }
        Ok(machine.name)
    })
}

/// Runs `mvm restart`.
pub fn restart(args: &RestartArgs) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::find(name)?;
        let record = machine.kept()?;
        if machine.is_running {
            stop::stop(&machine.name, args.timeout.seconds())?;
        }
        start(record)?;
        Ok(machine.name)
    })
}

/// Starts a kept machine that does not run.
///
/// # Errors
/// Its program cannot be run.
pub fn start(record: &Record) -> Result<()> {
    match detach::start(record)? {
        None => Ok(()),
        Some(end) => bail!(
            "{}: {}",
            record.name(),
            end.reason.unwrap_or_else(|| "it ended at once".into())
        ),
    }
}

/// Does something with each of `names` and prints what it returns; one that fails does not keep the
/// others from it.
///
/// # Errors
/// Standard output takes no more.
pub fn for_each(names: &[String], mut act: impl FnMut(&str) -> Result<String>) -> Result<ExitCode> {
    let mut status = ExitCode::SUCCESS;
    for name in names {
        match act(name) {
            Ok(line) => print(format!("{line}\n").as_bytes())?,
            Err(error) => {
                say(format_args!("{error:#}"));
                status = crate::FAILED.into();
            }
        }
    }
    Ok(status)
}
