//! `mvm completion`: what a shell needs to complete mvm's command lines.
//!
//! The one thing to know: the script asks `mvm` itself at each completion, which is how names of
//! machines and the like are known; [`VARIABLE`] says that it does.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{CompleteEnv, Shells};
use vmm::volume;

use super::man::FORMAT;
use crate::output::print;
use crate::{machines, networks};

/// Set to a shell's name by that shell's script, while it asks.
const VARIABLE: &str = "MVM_COMPLETE";

/// Print a script that lets a shell complete the command line
///
/// It completes names of machines, networks, volumes and manual pages, too. For bash, in this session:
/// source <(mvm completion bash)
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

/// Has arguments know what there is: machines, networks, volumes, and pages of the manual.
fn with_names(command: Command) -> Command {
    let pages = Pages(command.clone());
    let command = command.mut_subcommand("man", |man| {
        man.mut_arg("command", |argument| {
            argument.add(ArgValueCompleter::new(pages))
        })
    });
    command.mut_subcommands(|command| {
        command.mut_args(|argument| {
            let is_positional = argument.is_positional();
            match argument.get_id().as_str() {
                "name" | "names" if is_positional => argument.add(ArgValueCandidates::new(names)),
                "network" => argument.add(ArgValueCandidates::new(network_names)),
                "volume" => argument.add(ArgValueCompleter::new(mounts)),
                _ => argument,
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

fn network_names() -> Vec<CompletionCandidate> {
    let names = networks::names().into_iter();
    names.map(CompletionCandidate::new).collect()
}

/// What stands before the ":" of a mount: a named volume or a folder.
fn mounts(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    if text.contains(':') {
        // The rest is the machine's, whose files nobody here knows.
        return Vec::new();
    }
    let names = volume::names().unwrap_or_default().into_iter();
    let volumes = names.filter(|name| name.starts_with(&*text));
    let volumes = volumes.map(|name| CompletionCandidate::new(name + ":"));
    volumes
        .chain(PathCompleter::dir().complete(current))
        .collect()
}

/// The commands that have a page, and the format of the file.
struct Pages(Command);

impl ValueCompleter for Pages {
    /// What can be the next word of a page's name, behind those that the shell's line has.
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let before = words_before();
        let mut words = before.iter().skip_while(|word| *word != "man").skip(1);
        let format = words.clone().next().is_none().then_some(FORMAT);
        let command = words.try_fold(&self.0, |command, word| command.find_subcommand(word));
        let commands = command.into_iter().flat_map(Command::get_subcommands);
        let shown = commands.filter(|command| !command.is_hide_set());
        let names = shown.map(Command::get_name).chain(format);
        let current = current.to_string_lossy();
        names
            .filter(|name| name.starts_with(&*current))
            .map(CompletionCandidate::new)
            .collect()
    }
}

/// The words of the line before the one that the shell asks about: the last, or the one with this number.
fn words_before() -> Vec<OsString> {
    let line = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let mut words: Vec<_> = line.collect();
    let number = std::env::var("_CLAP_COMPLETE_INDEX").ok();
    let number = number.and_then(|number| number.parse().ok());
    words.truncate(number.unwrap_or(words.len().saturating_sub(1)));
    words
}
