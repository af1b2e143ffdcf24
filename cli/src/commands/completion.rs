//! `mvm completion`: what a shell needs to complete mvm's command lines.
//!
//! The one thing to know: the script asks `mvm` itself at each completion, which is how names of
//! machines are known; [`VARIABLE`] says that it does.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::machines;
use crate::output::print;

/// Set to a shell's name by that shell's script, while it asks.
const VARIABLE: &str = "MVM_COMPLETE";

/// Print a script that lets a shell complete the command line
///
/// It completes names of machines, too. For bash, in this session: source <(mvm completion bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&args.shell.to_string())
        .context("there is no completion for this shell")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "mvm", "mvm", "mvm", &mut script)?;
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell that asks. True if one did.
///
/// # Errors
/// Its question has no answer.
pub fn answer(command: fn() -> Command) -> clap::error::Result<bool> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(|| with_names(command()))
        .var(VARIABLE)
        .try_complete(arguments, folder.as_deref())
}

/// Each positional argument that is called so is a machine.
fn with_names(command: Command) -> Command {
    command.mut_subcommands(|command| {
        command.mut_args(|argument| {
            let is_machine = ["name", "names"].contains(&argument.get_id().as_str());
            if is_machine && argument.is_positional() {
                argument.add(ArgValueCandidates::new(names))
            } else {
                argument
            }
        })
    })
}

fn names() -> Vec<CompletionCandidate> {
    let machines = machines::all().unwrap_or_default().into_iter();
    machines
        .map(|machine| CompletionCandidate::new(machine.name))
        .collect()
}
