//! `mvm schema`: the JSON Schema of app.json, for editors and generators.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use vmm::app::App;

/// Print the JSON Schema of app.json
///
/// An editor that reads it completes keys and marks mistakes:
/// save it, and name it in the file's "$schema".
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &App::schema())
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out))
        .context("cannot write the schema")?;
    Ok(ExitCode::SUCCESS)
}
