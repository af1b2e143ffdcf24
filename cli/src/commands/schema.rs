//! `mvm schema`: the JSON Schema of app.json, for editors and generators.

use std::process::ExitCode;

use vmm::app::App;

use crate::output::print_json;

/// Print the JSON Schema of app.json
///
/// An editor that reads it completes keys and marks mistakes:
/// save it, and name it in the file's "$schema".
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args) -> anyhow::Result<ExitCode> {
    print_json(&App::schema())?;
    Ok(ExitCode::SUCCESS)
}
