//! `mvm create`: a machine that is kept and does not run yet.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;
use vmm::app::AppFile;

use super::run::Edits;
use crate::image;
use crate::machines::record::Facts;
use crate::machines::{Record, running};
use crate::output::print;

/// Names of the kind web, web-2, web-3 that are tried.
const SAME_NAME_MAX: u32 = 1000;

/// Keep a machine made from an app.json, without starting it
///
/// `mvm start` starts it. Prints its name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.json or the image; "-" is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    edits: Edits,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut file = image::load(&args.file)?;
    args.edits.apply(&mut file.app)?;
    let record = keep(&file, args.edits.name(), false)?;
    print(format!("{}\n", record.name()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps a machine called `name`, or by its file's name and a number that nobody has.
///
/// # Errors
/// A machine of that name exists.
pub fn keep(file: &AppFile, name: Option<&str>, remove_at_end: bool) -> anyhow::Result<Record> {
    let facts = Facts {
        created: Timestamp::now(),
        source: file.path().and_then(|path| std::path::absolute(path).ok()),
        remove_at_end,
    };
    match name {
        Some(name) if running::is_running(name) => bail!("a machine {name} runs already"),
        Some(name) => Record::create(name, &file.app, &facts),
        None => Record::create(&free_name(&file.app.name)?, &file.app, &facts),
    }
}

/// `base`, or that with the first number that nobody has.
///
/// # Errors
/// There are too many.
pub fn free_name(base: &str) -> anyhow::Result<String> {
    for number in 1..=SAME_NAME_MAX {
        let name = match number {
            1 => base.to_owned(),
            _ => format!("{base}-{number}"),
        };
        if Record::open(&name).is_none() && !running::is_running(&name) {
            return Ok(name);
        }
    }
    bail!(
        "there are {SAME_NAME_MAX} machines {base} already; `mvm prune` removes those that have ended"
    )
}
