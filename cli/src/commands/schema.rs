//! `mvm schema`: the JSON Schemas of app.json and compose.json, for editors and generators.

use std::process::ExitCode;

use vmm::app::App;
use vmm::compose::Project;

use crate::output::print_json;

/// Print the JSON Schema of app.json, or of compose.json
///
/// An editor that reads it completes keys and marks mistakes:
/// save it, and name it in the file's "$schema".
#[derive(Debug, clap::Args)]
pub struct Args {
    /// That of compose.json
    #[arg(long)]
    compose: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    print_json(&if args.compose {
        Project::schema()
    } else {
        App::schema()
    })?;
    Ok(ExitCode::SUCCESS)
}
