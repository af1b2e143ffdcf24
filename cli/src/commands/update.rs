//! `mvm update`: another file for a kept machine, which stays what it is otherwise.

mod switch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use vmm::toplevel;

use super::start::start_with;
use super::stop::{Timeout, stop};
use crate::control::client;
use crate::control::message::Request;
use crate::image;
use crate::machines::record::Facts;
use crate::machines::{self, Machine};
use crate::output::print;
use crate::secrets::Secrets;

/// Give a kept machine another app.json; its name, its logs and its state stay
///
/// If it runs and the file says something else than before, it is restarted; that is printed. A system
/// whose file names another one, and nothing else that is new, becomes that without a restart where it
/// can: by that one's switch-to-configuration, whose output is shown, and whose status is this
/// command's. If that fails, the machine keeps its file. The file alone counts: flags that the machine
/// was made with, but for its name, are not kept. The file is checked first, so that one with mistakes
/// stops nothing.
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
    match update(&machine, &args.file, &args.timeout)? {
        Done::Failed(status) => Ok(status.into()),
        Done::Is(done) => {
            print(format!("{}: {done}\n", machine.name).as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What came of an update.
enum Done {
    /// What is to be said.
    Is(String),
    /// What was to change the machine failed with this status, which has been said.
    Failed(u8),
}

fn update(machine: &Machine, file: &Path, timeout: &Timeout) -> Result<Done> {
    let is = |word: &str| Ok(Done::Is(word.into()));
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
        return is("unchanged");
    }
    let keep = || {
        record.set_app(&file.app)?;
        record.set_facts(&Facts {
            source: file.path().and_then(|path| std::path::absolute(path).ok()),
            ..facts
        })
    };
    let mut reason = String::new();
    if let (true, Some((from, to))) = (machine.is_running, switch::systems(&old, &file.app)) {
        if let Some(change) = toplevel::change_for_a_boot(from, to) {
            reason = format!(", since {change}");
        } else {
            let status = switch::carry_out(name, &file)?;
            if status != 0 {
                return Ok(Done::Failed(status));
            }
            keep()?;
            let app = Box::new(file.app.clone());
            client::order(name, &Request::Become { app })?;
            return is("switched");
        }
    }
    let secrets = if machine.is_running {
        let secrets = Secrets::of(&file.app)?;
        stop(machine, timeout)?;
        Some(secrets)
    } else {
        None
    };
    keep()?;
    let Some(secrets) = secrets else {
        return is("updated");
    };
    start_with(record, &secrets)?;
    is(&format!("restarted{reason}"))
}
