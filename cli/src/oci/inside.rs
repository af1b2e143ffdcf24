//! In the container: its process, which is the monitor, and those that `exec` adds, which are clients
//! of that.

use std::env;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest::protocol::{ByteString, Exec, Tty};
use vmm::app::AppFile;

use super::INSIDE;
use super::bundle::{INTERFACES, MACHINE, read};
use super::container::{Container, NAME};
use super::process::Entry;
use crate::agent::HELLO_TIMEOUT;
use crate::attach::{Company, Connection, Program, Stdio, attach};
use crate::control::client;
use crate::machines::Running;
use crate::monitor::{self, Start, Streams};
use crate::secrets::Secrets;
use crate::systemd::Sockets;
use crate::terminal;

/// Where the monitor has its machine, and its state. Both in memory.
pub const RUNTIME: &str = "/dev/mvm/run/machines";
pub const STATE: &str = "/dev/mvm/run/state";

/// For a monitor that was just started to listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(30);
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// Runs the container's machine until its program has ended.
///
/// # Errors
/// mvm or the guest failed.
pub fn machine() -> Result<ExitCode> {
    let inside = Path::new(INSIDE);
    let mut container: Container = read(&inside.join(MACHINE))?;
    let interfaces = inside.join(INTERFACES);
    if interfaces.exists() {
        container.app.interfaces = Some(read(&interfaces)?);
    }
    let file = AppFile::of(container.app, MACHINE)?;
    let Some(running) = Running::claim(NAME)? else {
        bail!("the container has a machine already");
    };
    let ended = monitor::run(Start {
        file: &file,
        running: &running,
        secrets: &Secrets::default(),
        sockets: Sockets::default(),
        streams: Streams::Inherited,
        statistics: None,
        timing: None,
        contained: Some(&container.bounds),
        started: Box::new(|| {}),
        ended: Box::new(|_| {}),
    })?;
    Ok(ended.tell())
}

/// Runs one more program in the container's machine, with this process' streams and environment.
///
/// # Errors
/// The machine does not run, or takes no program.
pub fn enter(entry: &str, argv: &[std::ffi::OsString]) -> Result<ExitCode> {
    let entry: Entry = serde_json::from_str(entry).context("what to execute")?;
    let exec = Exec {
        argv: argv.iter().cloned().map(ByteString::from).collect(),
        env: env::vars_os().map(variable).collect(),
        cwd: Some(entry.cwd.as_str().into()),
        user: Some(entry.user),
        tty: entry.terminal.then(terminal),
        stdin: true,
        bounds: entry.bounds,
        ..Exec::default()
    };
    let mut guest = Connection::open(agent()?, HELLO_TIMEOUT)
        .context("cannot run a program in the container's machine")?;
    let company = Company {
        hears_all: true,
        ..Company::default()
    };
    let outcome = attach(
        &mut guest,
        Program::New(&exec),
        Stdio::inherited()?,
        company,
    )?;
    Ok(outcome.tell("the container's machine")?.into())
}

fn variable((name, value): (std::ffi::OsString, std::ffi::OsString)) -> ByteString {
    let mut entry = name.into_vec();
    entry.push(b'=');
    entry.extend(value.into_vec());
    ByteString(entry)
}

fn terminal() -> Tty {
    let size = terminal::window_size().unwrap_or(terminal::VT100);
    Tty {
        rows: size.ws_row,
        cols: size.ws_col,
        // The program has the engine's variable.
        term: String::new(),
    }
}

/// A connection to the agent in the guest.
fn agent() -> Result<UnixStream> {
    let socket: PathBuf = [RUNTIME, NAME, "control"].iter().collect();
    let deadline = Instant::now() + LISTEN_TIMEOUT;
    loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => return client::agent_of(stream).context("the container's machine"),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) && Instant::now() < deadline =>
            {
                thread::sleep(LISTEN_PAUSE);
            }
            Err(error) => return Err(error).context("cannot reach the container's machine"),
        }
    }
}
