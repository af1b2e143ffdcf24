//! `mvm run`: one program in its own machine, from the file to the exit status.

mod edit;
mod setup;
mod statistics;

use std::fs;
use std::io::{self, IsTerminal};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use guest::protocol::PORT_NAME;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vmm::app::{App, AppFile, Tty};
use vmm::boot::modules;
use vmm::closure::StoreView;
use vmm::machine::{Exits, Inputs, Machine, Running};
use vmm::vcpu::Exit;

use crate::accel::is_inside;
use crate::attach::{Closed, Connection, Outcome, Stdio, attach};
use crate::folder::Folder;
use crate::output::say;
use crate::{emulator, init_binary, terminal};

/// From the first instruction to init's first word. Far above what the slowest host needs, and an
/// end to waiting for a guest that hangs.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// For init to mount what it was told to.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// For a machine to tell how it ended, once it has closed the stream to its guest.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Lines of the kernel's that an error shows.
const CONSOLE_LINES: usize = 12;

/// Run the program of an app.json in a machine of its own
///
/// Standard input, output and error are the program's, and so is the exit status: its own, or
/// 128+n if signal n killed it; 127 if it was not found in the machine, 126 if it cannot be
/// executed, 125 if mvm itself failed. Ctrl-C goes to the program; a second one ends the machine,
/// or the third within a second where the program has a terminal.
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
    let kernel = kernel(app.kernel.path.as_deref())?;
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

    let finished = converse(app, &store, host, &kernel);
    if let Some(path) = &args.statistics
        && let Err(error) = statistics::write(path, &running.shares)
    {
        // The program's status says more than this, which is not its doing.
        say(format_args!("{error:#}"));
    }
    status(finished, &ended, &running).map_err(|error| with_console(error, &running))
}

/// The kernel's file. One that the file names is read where it is, so that errors name it.
fn kernel(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let found = vmm::kernel::find(named)?;
    Ok(if named.is_none() && is_inside() {
        emulator::kernel_in_memory(found)
    } else {
        found
    })
}

/// mvm's own status, given how the program ended and, where it did not, how its machine did.
fn status(
    finished: anyhow::Result<Outcome>,
    ended: &Receiver<Exit>,
    running: &Running,
) -> anyhow::Result<ExitCode> {
    match finished {
        Ok(Outcome::Refused { code, message }) => {
            say(format_args!("{message}"));
            Ok(code.into())
        }
        Ok(Outcome::Lost) => {
            let exit = ended.recv().context("a thread of the monitor panicked")?;
            after_the_end(exit, running.console.panic())
        }
        Ok(outcome) => Ok(outcome.status().into()),
        Err(error) => {
            // The parts of a machine that ends close the stream, maybe before its end is told.
            let end = if error.is::<Closed>() {
                ended.recv_timeout(END_TIMEOUT).ok()
            } else {
                ended.try_recv().ok()
            };
            Err(after_a_failure(error, end, running.console.panic()))
        }
    }
}

/// Runs the program once the guest has answered.
fn converse(
    app: &App,
    store: &StoreView,
    host: UnixStream,
    kernel: &Path,
) -> anyhow::Result<Outcome> {
    let mut guest =
        Connection::open(host, BOOT_TIMEOUT).map_err(|error| match modules::missing(kernel) {
            // One that ended its machine says why by that.
            Some(hint) if !error.is::<Closed>() => anyhow!("{error:#}; {hint}"),
            _ => error,
        })?;
    guest.set_up(&setup::setup(app, *store != StoreView::None), SETUP_TIMEOUT)?;
    let window =
        wants_terminal(app.app.tty).then(|| terminal::window_size().unwrap_or(terminal::VT100));
    attach(
        &mut guest,
        &setup::execution(app, window),
        Stdio::inherited()?,
    )
}

/// Waits for the machine's own end in a thread, which then closes the stream to the guest: nobody
/// is at its other end any more.
fn watch(exits: Exits, host: &UnixStream) -> anyhow::Result<Receiver<Exit>> {
    let host = host.try_clone().context("cannot copy a socket")?;
    let (sender, ended) = mpsc::channel();
    thread::Builder::new()
        .name("exits".into())
        .spawn(move || {
            // First, so that whoever finds the stream closed is told why. Nobody may ask, when the
            // program ended before; the stream is closed then, too.
            let _ = sender.send(exits.wait());
            let _ = host.shutdown(Shutdown::Both);
        })
        .context("cannot start a thread")?;
    Ok(ended)
}

/// The status when the machine ended and the program did not say how it did.
fn after_the_end(exit: Exit, panic: Option<String>) -> anyhow::Result<ExitCode> {
    let is_reset = matches!(exit, Exit::Reset);
    match fault(exit, panic) {
        Some(error) => Err(error),
        None if is_reset => Err(anyhow!("the guest reset its machine, which ends it")),
        // As the program asked.
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The error when the guest failed, whether the machine's end was seen by then or not. A guest that
/// fails ends its machine itself, so an end that it asked for says less than the error.
fn after_a_failure(
    error: anyhow::Error,
    end: Option<Exit>,
    panic: Option<String>,
) -> anyhow::Error {
    let Some(exit) = end else {
        return error;
    };
    let how = match exit {
        Exit::Reset if error.is::<Closed>() => Some("reset its machine"),
        Exit::Off if error.is::<Closed>() => Some("switched its machine off"),
        _ => None,
    };
    match (fault(exit, panic), how) {
        (Some(fault), _) => fault,
        (None, Some(how)) => anyhow!("the guest {how} before its program was started"),
        (None, None) => error,
    }
}

/// What was wrong with a machine that ended, unless its guest asked for the end.
fn fault(exit: Exit, panic: Option<String>) -> Option<anyhow::Error> {
    match exit {
        Exit::Failed(error) => Some(error.context("the machine stopped")),
        // Behind its back trace the line may be out of sight.
        Exit::Off | Exit::Reset => panic.map(|line| anyhow!("the guest's kernel panicked: {line}")),
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
        Tty::Auto => io::stdin().is_terminal() && io::stdout().is_terminal(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: &anyhow::Error) -> String {
        format!("{error:#}")
    }

    const PANIC: &str = "Kernel panic - not syncing: no init";

    #[test]
    fn a_guest_that_failed_is_an_error_however_its_machine_ended() {
        for end in [None, Some(Exit::Off), Some(Exit::Reset)] {
            let error = after_a_failure(anyhow!("the guest failed: no such device"), end, None);
            assert_eq!(words(&error), "the guest failed: no such device");
        }
    }

    #[test]
    fn a_guest_that_ended_its_machine_without_a_word_is_told_so() {
        let closed = || anyhow!(Closed).context("cannot greet the guest");
        let before = "before its program was started";
        for (end, how) in [
            (Exit::Reset, format!("the guest reset its machine {before}")),
            (
                Exit::Off,
                format!("the guest switched its machine off {before}"),
            ),
        ] {
            assert_eq!(words(&after_a_failure(closed(), Some(end), None)), how);
        }
        let unknown = after_a_failure(closed(), None, None);
        assert_eq!(
            words(&unknown),
            "cannot greet the guest: it closed the connection"
        );
    }

    #[test]
    fn an_end_that_no_guest_asks_for_explains_its_silence() {
        let silent = || anyhow!("it closed the connection");
        let stopped = after_a_failure(silent(), Some(Exit::Failed(anyhow!("EIO"))), None);
        assert_eq!(words(&stopped), "the machine stopped: EIO");
        let panicked = after_a_failure(silent(), Some(Exit::Reset), Some(PANIC.into()));
        assert_eq!(
            words(&panicked),
            format!("the guest's kernel panicked: {PANIC}")
        );
    }

    #[test]
    fn power_off_alone_is_a_good_end() {
        let off = after_the_end(Exit::Off, None).unwrap();
        assert_eq!(off, ExitCode::SUCCESS);
        let reset = after_the_end(Exit::Reset, None).unwrap_err();
        assert_eq!(words(&reset), "the guest reset its machine, which ends it");
        assert!(after_the_end(Exit::Off, Some(PANIC.into())).is_err());
        assert!(after_the_end(Exit::Failed(anyhow!("EIO")), None).is_err());
    }
}
