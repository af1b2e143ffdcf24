//! `mvm run`: one program in its own machine, from the file to the exit status.

mod edit;
mod setup;
mod statistics;

use std::fs;
use std::io::IsTerminal;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use guest::protocol::PORT_NAME;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::termios::Winsize;
use vmm::app::{App, AppFile, Tty};
use vmm::closure::StoreView;
use vmm::machine::{Exits, Inputs, Machine, Running};
use vmm::vcpu::Exit;

use crate::attach::{Connection, Outcome, Stdio, attach};
use crate::folder::Folder;
use crate::{init_binary, terminal};

/// From the first instruction to init's first word. Far above what the slowest host needs, and an
/// end to waiting for a guest that hangs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// For init to mount what it was told to.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// A terminal whose size nobody knows, as on the VT100.
const WINDOW: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};
/// Lines of the kernel's that an error shows.
const CONSOLE_LINES: usize = 12;

/// Run the program of an app.json in a machine of its own
///
/// Standard input, output and error are the program's, and so is the exit status: its own, or
/// 128+n if signal n killed it; 127 if it was not found in the machine, 126 if it cannot be
/// executed, 125 if mvm itself failed. Ctrl-C goes to the program; a second one ends the machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; "-" is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Arguments for the program instead of `app.args`
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
    /// Number of processors, instead of `vcpus`
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory such as 512M, instead of `memory`
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Set a variable of the program's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Kernel to boot, instead of `kernel.path`
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Write what the guest asked of each share, and how it was confined, to a JSON file at the end
    #[arg(long, value_name = "PATH")]
    statistics: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut file = AppFile::load(&args.file)?;
    edit::apply(args, &mut file.app)?;
    let app = &file.app;
    let store = StoreView::of(&file)?;
    let kernel = vmm::kernel::find(app.kernel.path.as_deref())?;
    let init = init_binary::find()?;
    let init = fs::read(&init).with_context(|| format!("cannot read {}", init.display()))?;
    raise_descriptor_limit();

    let _folder = Folder::create(&app.name)?;
    let (host, port) = UnixStream::pair().context("cannot make a socket")?;
    let inputs = Inputs {
        kernel: &kernel,
        init: &init,
        port_name: PORT_NAME,
        port,
        store: &store,
    };
    let machine =
        Machine::new(app, inputs).with_context(|| format!("cannot start {}", app.name))?;
    let (running, exits) = machine.start()?;
    let ended = watch(exits, &host)?;

    let finished = converse(app, &store, host);
    if let Some(path) = &args.statistics {
        statistics::write(path, &running.shares)?;
    }
    match finished {
        Ok(Outcome::Refused { code, message }) => {
            eprintln!("mvm: {message}");
            Ok(code.into())
        }
        Ok(Outcome::Lost) => after_the_end(&running, ended),
        Ok(outcome) => Ok(outcome.status().into()),
        // The machine's own end explains why its guest is silent.
        Err(_) if ended.is_finished() => after_the_end(&running, ended),
        Err(error) => Err(with_console(error, &running)),
    }
}

/// Runs the program once the guest has answered.
fn converse(app: &App, store: &StoreView, host: UnixStream) -> anyhow::Result<Outcome> {
    let mut guest = Connection::open(host, BOOT_TIMEOUT)?;
    guest.set_up(&setup::setup(app, *store != StoreView::None), SETUP_TIMEOUT)?;
    let window = wants_terminal(app.app.tty).then(|| terminal::window_size().unwrap_or(WINDOW));
    attach(
        &mut guest,
        &setup::execution(app, window),
        Stdio::inherited()?,
    )
}

/// Waits for the machine's own end in a thread, which then closes the stream to the guest: nobody
/// is at its other end any more.
fn watch(exits: Exits, host: &UnixStream) -> anyhow::Result<JoinHandle<Exit>> {
    let host = host.try_clone().context("cannot copy a socket")?;
    thread::Builder::new()
        .name("exits".into())
        .spawn(move || {
            let exit = exits.wait();
            // It may be closed already, when the program ended first.
            let _ = host.shutdown(std::net::Shutdown::Both);
            exit
        })
        .context("cannot start a thread")
}

/// The status when the machine ended and the program did not say how it did.
fn after_the_end(running: &Running, ended: JoinHandle<Exit>) -> anyhow::Result<ExitCode> {
    let exit = ended
        .join()
        .map_err(|_| anyhow!("a thread of the monitor panicked"))?;
    match (exit, running.console.panic()) {
        (Exit::Failed(error), _) => {
            Err(with_console(error.context("the machine stopped"), running))
        }
        // Behind its back trace the line may be out of sight.
        (Exit::Off | Exit::Reset, Some(line)) => Err(with_console(
            anyhow!("the guest's kernel panicked: {line}"),
            running,
        )),
        // As the program asked.
        (Exit::Off, None) => Ok(ExitCode::SUCCESS),
        (Exit::Reset, None) => bail!("the guest reset its machine, which ends it"),
    }
}

/// Adds what the kernel said last.
fn with_console(error: anyhow::Error, running: &Running) -> anyhow::Error {
    let lines = running.console.last_lines(CONSOLE_LINES);
    if lines.is_empty() {
        return error;
    }
    anyhow!(
        "{error:#}\nthe guest's kernel said last:\n  {}",
        lines.join("\n  ")
    )
}

fn wants_terminal(tty: Tty) -> bool {
    match tty {
        Tty::Always => true,
        Tty::Never => false,
        Tty::Auto => std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
    }
}

/// The file server keeps some hundred files open.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // With fewer descriptors it closes and opens more often.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}
