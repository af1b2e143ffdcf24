//! `mvm attach`: this terminal for a program that runs in the background.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::ArgAction;
use vmm::app::Tty;

use crate::agent::HELLO_TIMEOUT;
use crate::attach::{Company, Connection, DetachKeys, Outcome, Program, Stdio, attach};
use crate::control::client;
use crate::machines;
use crate::output::say;

/// See what the program of a machine in the background says from now on, and type to it
///
/// It takes input where the machine was made with --interactive or `app.stdin`; the end of this
/// command's input does not end the program's. SIGINT, SIGTERM and the like go to the program; a second
/// one ends this command alone. Several may be attached at once. Exits with the program's status when
/// that ends.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
    #[command(flatten)]
    keys: Keys,
    /// Pass no input on
    #[arg(long)]
    no_stdin: bool,
    /// Whether signals go to the program; with "=false" SIGINT and SIGTERM end this command alone
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true
    )]
    sig_proxy: bool,
}

/// How a terminal's user leaves a program that goes on.
#[derive(Clone, Debug, clap::Args)]
pub struct Keys {
    /// Keys of a terminal that leave the program to itself: characters, or ctrl- and one of a-z@[\]^_;
    /// "" for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
}

impl Keys {
    /// For a program that nobody else has to do with.
    pub fn company(&self) -> Company<'static> {
        Company {
            keys: self.detach_keys.clone(),
            ..Company::default()
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machine = machines::find(&args.name)?;
    machine.ensure_running()?;
    let name = &machine.name;
    let info = client::info(name)?;
    ensure!(
        !info.paused,
        "{name} is paused; `mvm unpause {name}` lets it go on"
    );
    let program = info.app.program();
    let running = Program::Running {
        has_terminal: program.tty == Tty::Always,
        takes_input: program.stdin && !args.no_stdin,
        gets_signals: args.sig_proxy,
    };
    let mut audience = Connection::open(client::attach(name)?, HELLO_TIMEOUT)
        .with_context(|| format!("cannot attach to {name}"))?;
    let stdio = Stdio::inherited()?;
    match attach(&mut audience, running, stdio, args.keys.company())? {
        Outcome::Lost => bail!("{name} has ended"),
        outcome @ Outcome::GaveUp { .. } => {
            say(format_args!("left {name}, which goes on"));
            Ok(outcome.status().into())
        }
        outcome => Ok(outcome.status().into()),
    }
}
