//! `mvm emulator`: the machine that stands in where the host has no KVM backed by hardware.
//!
//! The one thing to know: there is one for each user. The first command that needs it starts it, the
//! next ones find it running, and it ends after ten minutes without work. `broker.rs` is the process
//! that owns it, `forward.rs` the command's side.

mod broker;
mod files;
mod folder;
mod forward;
mod kernel;
mod log;
mod machine;
mod network;
pub mod notices;
mod ports;
mod start;
mod state;
mod stop;
mod store;
mod tsc;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use folder::Folder;
use state::State;

use crate::output::print;

pub use forward::carry_out;
pub use kernel::in_memory as kernel_in_memory;
pub use network::is_here as is_in_network;
pub use ports::Published;

/// Look at the emulated host, which stands in where there is no hardware KVM, or stop it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell whether it runs, since when, and what it has; exits with 0 either way
    Status {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop it, with all that runs in it
    Stop,
    /// Print what it and its kernel have said since the last start
    Log {
        /// Go on until it ends
        #[arg(long, short, conflicts_with = "previous")]
        follow: bool,
        /// Of the one before, which another command may have replaced
        #[arg(long)]
        previous: bool,
    },
    /// Execute a program of this host inside it, for tests and measurements of what runs there
    Exec {
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "PROGRAM")]
        argv: Vec<OsString>,
    },
    /// Own the emulated host; standard input is its socket
    #[command(hide = true)]
    Serve,
    /// Become the emulator
    #[command(hide = true)]
    Machine {
        /// The process to die with
        #[arg(long)]
        parent: u32,
        /// The emulator's arguments
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Inside: forget what is cached of the store
    #[command(hide = true)]
    Forget,
    /// Inside: exit with 0 if a machine runs, with 1 if none does
    #[command(hide = true)]
    Busy,
    /// Inside: have ports of the host lead here as long as standard input is open
    #[command(hide = true)]
    Hold,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Status { json } => status(*json)?,
        Command::Stop => stop::stop(&Folder::open()?)?,
        Command::Log { previous: true, .. } => log::print_previous(&Folder::open()?)?,
        Command::Log { follow, .. } => log::print(&Folder::open()?, *follow)?,
        Command::Exec { argv } => {
            return forward::execute(argv.iter().cloned(), "`mvm emulator exec`");
        }
        Command::Serve => broker::serve()?,
        Command::Machine { parent, arguments } => machine::become_qemu(*parent, arguments)?,
        Command::Forget => store::forget()?,
        Command::Busy => return Ok(u8::from(!files::has_machines()).into()),
        Command::Hold => ports::hold()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it runs, or starts.
///
/// # Errors
/// Its folder is not this user's alone.
pub fn is_running() -> Result<bool> {
    Ok(State::read(&Folder::open()?)?.is_some())
}

/// What `status --json` prints.
#[derive(Serialize)]
struct Status<'a> {
    running: bool,
    #[serde(flatten)]
    state: Option<&'a State>,
}

fn status(json: bool) -> Result<()> {
    let folder = Folder::open()?;
    let state = State::read(&folder)?;
    let text = if json {
        let status = Status {
            running: state.is_some(),
            state: state.as_ref(),
        };
        serde_json::to_string_pretty(&status)? + "\n"
    } else {
        match &state {
            None => "the emulated host does not run\n".into(),
            Some(state) => describe(state, &folder),
        }
    };
    print(text.as_bytes())
}

fn describe(state: &State, folder: &Folder) -> String {
    let how = match state.ready_ms {
        Some(ms) => format!("runs, ready after {}.{} s", ms / 1000, ms % 1000 / 100),
        None => "starts".into(),
    };
    let lines = [
        format!("the emulated host {how}"),
        format!("started    {} s ago", state.age_s()),
        format!(
            "processes  {} (mvm), {} (QEMU)",
            state.pid, state.machine_pid
        ),
        format!("commands   {}", state.commands),
        format!(
            "machine    {} processors, {} MiB",
            state.cpus, state.memory_mib
        ),
        format!("kernel     {}", state.kernel.display()),
        format!("log        {}", folder.log().display()),
    ];
    lines.join("\n") + "\n"
}
