//! `mvm start`, `mvm restart`: kept machines, run again.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::stop::{self, Timeout};
use crate::detach;
use crate::events::{self, Happened};
use crate::machines::{self, Machine, Record, Running};
use crate::monitor::{self, Start, Streams};
use crate::output::{print, say};
use crate::ready;
use crate::secrets::Secrets;
use crate::systemd::Sockets;

/// Start machines that are kept
///
/// Prints the name of each once its program runs. One that runs is left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Run the one machine in the foreground, with this command's streams instead of logs, and exit
    /// with its program's status
    #[arg(long, short)]
    attach: bool,
    #[command(flatten)]
    ready: ready::Args,
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
    if args.attach {
        let [name] = &args.names[..] else {
            bail!("--attach takes one machine");
        };
        return attached(&machines::find(name)?);
    }
    for_each(&args.names, |name| {
        let machine = machines::find(name)?;
        if !machine.is_running {
            start(machine.kept()?)?;
        }
        if let Some(record) = &machine.record {
            args.ready.wait(record)?;
        }
        Ok(machine.name)
    })
}

/// Runs `mvm restart`.
pub fn restart(args: &RestartArgs) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::called(name)?;
        let record = machine.kept()?;
        // One that could not be started again is not stopped.
        let secrets = Secrets::of(&record.app_file()?.app)?;
        if machine.is_running {
            stop::stop(&machine, &args.timeout)?;
        }
        start_with(record, &secrets)?;
        events::note(&machine.name, Happened::Restarted);
        Ok(machine.name)
    })
}

fn attached(machine: &Machine) -> Result<ExitCode> {
    // Before there is a child that could have them.
    let sockets = Sockets::receive()?;
    let record = machine.kept()?;
    let Some(running) = Running::claim(&machine.name)? else {
        bail!("{} runs already", machine.name);
    };
    record.set_end(None)?;
    let file = record.app_file()?;
    let secrets = Secrets::of(&file.app)?;
    let ended = monitor::run(Start {
        file: &file,
        running: &running,
        secrets: &secrets,
        sockets,
        streams: Streams::Inherited,
        statistics: None,
        timing: None,
        contained: None,
        started: Box::new(|| {}),
        // Without a note of it, the end reads as that of a killed monitor.
        ended: Box::new(|end| drop(record.set_end(Some(end)))),
    });
    if record.facts()?.remove_at_end {
        record.remove()?;
    }
    let ended = ended?;
    Ok(ended.tell())
}

/// Starts a kept machine that does not run.
///
/// # Errors
/// Its program cannot be run.
pub fn start(record: &Record) -> Result<()> {
    start_with(record, &Secrets::of(&record.app_file()?.app)?)
}

/// As [`start`], with these values of its secrets.
///
/// # Errors
/// As [`start`].
pub fn start_with(record: &Record, secrets: &Secrets) -> Result<()> {
    match detach::start(record, secrets)? {
        None => Ok(()),
        Some(end) => bail!(
            "{}: {}",
            record.name(),
            end.reason.unwrap_or_else(|| "it ended at once".into())
        ),
    }
}

/// Does something with each of `names` and prints what it returns; one that fails does not keep the
/// others from it, and a name that comes again is left out.
///
/// # Errors
/// Standard output takes no more.
pub fn for_each(names: &[String], mut act: impl FnMut(&str) -> Result<String>) -> Result<ExitCode> {
    let mut status = ExitCode::SUCCESS;
    for (nth, name) in names.iter().enumerate() {
        if names[..nth].contains(name) {
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_twice_is_acted_on_once() {
        let names = ["a", "b", "a", "b", "a"].map(String::from);
        let mut seen = Vec::new();
        let status = for_each(&names, |name| {
            seen.push(name.to_owned());
            bail!("it fails")
        });
        assert_eq!(status.unwrap(), crate::FAILED.into());
        assert_eq!(seen, ["a", "b"]);
    }
}
