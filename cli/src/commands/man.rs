//! `mvm man`: manual pages, from the definition of the command line and the schema of app.json.

mod format;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::generate_to;

/// Write a manual page for each command, man1/mvm-run.1 and so on, and man5/mvm-app.json.5
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder, made if it is missing
    folder: PathBuf,
}

/// Runs the command.
pub fn run<C: CommandFactory>(args: &Args) -> Result<ExitCode> {
    let (commands, formats) = (args.folder.join("man1"), args.folder.join("man5"));
    let write = || {
        fs::create_dir_all(&commands)?;
        generate_to(C::command(), &commands)?;
        fs::create_dir_all(&formats)?;
        fs::write(formats.join("mvm-app.json.5"), format::page())
    };
    let folder = args.folder.display();
    write().with_context(|| format!("cannot write manual pages to {folder}"))?;
    Ok(ExitCode::SUCCESS)
}
