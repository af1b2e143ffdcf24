//! `mvm exec`, `mvm shell`, `mvm login`: more programs in a running machine.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anyhow::Result;
use guest::protocol::{Exec, Tty};
use vmm::app::App;

use super::attach::Keys;
use crate::agent::{self, HELLO_TIMEOUT};
use crate::attach::{self, Stdio, attach, launch};
use crate::environment;
use crate::machines;
use crate::monitor::setup;
use crate::terminal;

/// Run one more program in a machine that runs
///
/// Its exit status is that of this command, as with `mvm run`. It has the environment of the
/// machine's program. When this command goes, the program is killed, unless it was detached.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    how: How,
    /// The machine
    name: String,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// How a program is run in a machine that runs.
#[derive(Clone, Debug, clap::Args)]
// A group is named by its type, and each command has such a one.
#[group(skip)]
pub struct How {
    /// Leave it to itself once it runs; it has no input, and what it says is thrown away
    #[arg(long, short)]
    detach: bool,
    /// Pass standard input on
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    #[command(flatten)]
    keys: Keys,
    /// Set a variable of its environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Who it runs as: a name, a uid, or either with `:group`; by default as the machine's program. In
    /// any case it has the groups of `app.groups` besides
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Folder that it starts in; by default that of the machine's program
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
}

impl How {
    /// With input, and with a terminal where this command has one unless `no_tty` says otherwise: as
    /// programs are run in a project's machines.
    #[must_use]
    pub fn at_hand(mut self, no_tty: bool) -> Self {
        let has_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        self.interactive = true;
        self.tty |= has_terminal && !no_tty && !self.detach;
        self
    }
}

/// Run a shell in a machine that runs
///
/// The first of bash, sh and busybox that its PATH or its closure has.
#[derive(Debug, clap::Args)]
pub struct ShellArgs {
    /// The machine
    name: String,
    /// Who it runs as; by default as the machine's program
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    keys: Keys,
}

/// Run a shell in a machine as root
#[derive(Debug, clap::Args)]
pub struct LoginArgs {
    /// The machine
    name: String,
    #[command(flatten)]
    keys: Keys,
}

/// Runs `mvm exec`.
pub fn run(args: &Args) -> Result<ExitCode> {
    run_in(&args.name, &args.how, &args.command)
}

/// Runs a command in the machine that is called `name`.
///
/// # Errors
/// There is none that runs, or it takes no command.
pub fn run_in(name: &str, how: &How, command: &[OsString]) -> Result<ExitCode> {
    let keys = (!how.detach).then_some(&how.keys);
    execute(name, keys, |app| {
        let program = app.program();
        let mut env = program.env.clone();
        environment::set(&mut env, &how.env)?;
        Ok(Exec {
            argv: command.iter().cloned().map(Into::into).collect(),
            env: environment::lines(&env),
            cwd: Some(how.workdir.as_deref().unwrap_or(program.cwd()).into()),
            user: Some(how.user.as_deref().unwrap_or(program.user()).into()),
            bounds: setup::bounds(&program),
            tty: how.tty.then(tty),
            stdin: how.interactive && !how.detach,
            ..Exec::default()
        })
    })
}

/// Runs `mvm shell`.
pub fn shell(args: &ShellArgs) -> Result<ExitCode> {
    execute(&args.name, Some(&args.keys), |app| {
        Ok(shell_of(app, args.user.as_deref()))
    })
}

/// Runs `mvm login`.
pub fn login(args: &LoginArgs) -> Result<ExitCode> {
    execute(&args.name, Some(&args.keys), |app| {
        Ok(shell_of(app, Some("root")))
    })
}

/// A shell of `user`, or of who the machine's program runs as.
fn shell_of(app: &App, user: Option<&str>) -> Exec {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let program = app.program();
    Exec {
        argv: Vec::new(),
        env: environment::lines(&program.env),
        cwd: Some(program.cwd().into()),
        user: Some(user.unwrap_or(program.user()).into()),
        bounds: setup::bounds(&program),
        tty: is_terminal.then(tty),
        stdin: true,
        ..Exec::default()
    }
}

/// A terminal like that of this process.
pub fn tty() -> Tty {
    let size = terminal::window_size().unwrap_or(terminal::VT100);
    Tty {
        rows: size.ws_row,
        cols: size.ws_col,
        term: std::env::var("TERM").unwrap_or_else(|_| "linux".into()),
    }
}

/// Runs what `exec` makes of the machine's app.json: with this process's streams until those `keys`
/// are typed, or without any.
fn execute(
    name: &str,
    keys: Option<&Keys>,
    exec: impl FnOnce(&App) -> Result<Exec>,
) -> Result<ExitCode> {
    let name = &machines::find(name)?.name;
    let (mut guest, app) = agent::connect(name)?;
    let exec = exec(&app)?;
    let outcome = match keys {
        None => launch(&mut guest, &exec, HELLO_TIMEOUT),
        Some(keys) => attach(
            &mut guest,
            attach::Program::New(&exec),
            Stdio::inherited()?,
            keys.company(),
        ),
    };
    Ok(outcome?.tell(name)?.into())
}
