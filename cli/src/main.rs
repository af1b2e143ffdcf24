//! The `mvm` program: parse, dispatch, print one error, set the exit code.

mod accel;
mod attach;
mod check;
mod completion;
mod emulator;
mod folder;
mod init_binary;
mod output;
mod run;
mod schema;
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;

use accel::{Accel, Place};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use vmm::app::Problems;

/// mvm itself failed; every other status is the program's own.
const FAILED: u8 = 125;

/// Run a program in its own Linux virtual machine, with the host's Nix store shared
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// What machines run on; by default KVM, or an emulated host where that is not backed by
    /// hardware. The variable `MVM_ACCEL` says the same
    #[arg(long, value_enum, global = true, value_name = "HOW")]
    accel: Option<Accel>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Emulator(emulator::Args),
    Check(check::Args),
    Schema(schema::Args),
    Completion(completion::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Run(args) => match Accel::place(cli.accel) {
            Ok(Place::Here) => run::run(&args),
            Ok(Place::EmulatedHost { reason }) => emulator::carry_out(&reason),
            Err(error) => Err(error),
        },
        Command::Emulator(args) => emulator::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completion(args) => completion::run::<Cli>(&args),
    };
    result.unwrap_or_else(|error| {
        match error.downcast_ref::<Problems>() {
            // Each begins with the file and the line, as editors expect. Nobody to tell when the
            // stream is closed.
            Some(problems) => drop(writeln!(io::stderr(), "{problems}")),
            None => output::say(format_args!("{error:#}")),
        }
        ExitCode::from(FAILED)
    })
}

/// Prints help to standard output, and what is wrong with the command line to standard error.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody to tell when the stream is closed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}
