//! `mvm man`: manual pages, from the definition of the command line itself.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::generate_to;

/// Write a manual page for each command: mvm.1, mvm-run.1 and so on
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder, made if it is missing
    folder: PathBuf,
}

/// Runs the command.
pub fn run<C: CommandFactory>(args: &Args) -> Result<ExitCode> {
    let folder = &args.folder;
    let cannot = || format!("cannot write manual pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    generate_to(C::command(), folder).with_context(cannot)?;
    Ok(ExitCode::SUCCESS)
}
