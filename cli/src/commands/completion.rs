//! `mvm completion`: what a shell needs to complete mvm's command lines.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::output::print;

/// Print a script that lets a shell complete the command line
///
/// For bash, in this session: source <(mvm completion bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run<C: CommandFactory>(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "mvm", &mut script);
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
