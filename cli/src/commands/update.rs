//! `mvm update`: another file for a kept machine, which stays what it is otherwise.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::start::start_with;
use super::stop::{Timeout, stop};
use crate::image;
use crate::machines::record::Facts;
use crate::machines::{self, Machine};
use crate::output::print;
use crate::secrets::Secrets;

/// Give a kept machine another app.json; its name, its logs and its state stay
///
/// If it runs and the file says something else than before, it is restarted; that is printed. The
/// file alone counts: flags that the machine was made with, but for its name, are not kept. The file
/// is checked first, so that one with mistakes stops nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
    /// The file; "-" is the standard input
    file: PathBuf,
    #[command(flatten)]
    timeout: Timeout,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machine = machines::called(&args.name)?;
    let done = update(&machine, &args.file, &args.timeout)?;
    print(format!("{}: {done}\n", machine.name).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn update(machine: &Machine, file: &Path, timeout: &Timeout) -> Result<&'static str> {
    let record = machine.kept()?;
    let facts = record.facts()?;
    let name = &machine.name;
    ensure!(
        !facts.remove_at_end,
        "{name} goes when it ends; `mvm run --detach` without --rm makes one that can be updated"
    );
    let mut file = image::load(file)?;
    file.check_host()?;
    let old = record.app_file()?.app;
    image::settle(&mut file.app)?;
    file.app.name.clone_from(&old.name);
    if file.app == old {
        return Ok("unchanged");
    }
    let secrets = if machine.is_running {
        let secrets = Secrets::of(&file.app)?;
        stop(machine, timeout)?;
        Some(secrets)
    } else {
        None
    };
    record.set_app(&file.app)?;
    record.set_facts(&Facts {
        source: file.path().and_then(|path| std::path::absolute(path).ok()),
        ..facts
    })?;
    let Some(secrets) = secrets else {
        return Ok("updated");
    };
    start_with(record, &secrets)?;
    Ok("restarted")
}
