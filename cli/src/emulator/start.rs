//! Reaching the emulated host, and starting it if there is none.
//!
//! The one thing to know: the command that starts it makes the socket itself and hands it over. So
//! it can be connected to at once, by this command and any other, and all wait for the same hello.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::folder::Folder;
use super::machine::open_log;
use crate::systemd;

/// Connects to the emulated host if there is one.
pub fn connect(folder: &Folder) -> Result<Option<UnixStream>> {
    match UnixStream::connect(folder.socket()) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).context("cannot connect to the emulated host"),
    }
}

/// Connects to the emulated host, which `start` starts if there is none.
pub fn reach(
    folder: &Folder,
    start: impl FnOnce(UnixListener) -> Result<()>,
) -> Result<UnixStream> {
    if let Some(stream) = connect(folder)? {
        return Ok(stream);
    }
    let _turn = folder.turn()?;
    // Another command may have had its turn before.
    if let Some(stream) = connect(folder)? {
        return Ok(stream);
    }
    let socket = folder.socket();
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(&socket, Permissions::from_mode(0o600))
        .with_context(|| format!("cannot close {} to others", socket.display()))?;
    start(listener)?;
    UnixStream::connect(&socket).context("cannot connect to the emulated host")
}

/// Starts the process that owns the emulated host; it gets the socket as its standard input.
pub fn start_process(folder: &Folder, listener: UnixListener) -> Result<()> {
    // Each has its own log, which is read after its end, when the next may have been started.
    match fs::rename(folder.log(), folder.previous_log()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("cannot put the emulated host's old log aside");
        }
        _ => {}
    }
    let log = open_log(&folder.log())?;
    let program = env::current_exe().context("cannot tell where mvm is")?;
    own_scope(&program)
        .args(["emulator", "serve"])
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| is_its_own(name)))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the emulated host")?;
    Ok(())
}

/// The command that executes `program`; as part of a service, outside of it: it serves others as well,
/// and shall not end with the service that needed it first.
fn own_scope(program: &Path) -> Command {
    if !systemd::is_service() {
        return Command::new(program);
    }
    let mut command = Command::new("systemd-run");
    if !rustix::process::getuid().is_root() {
        command.arg("--user");
    }
    command.args([
        "--scope",
        "--quiet",
        "--collect",
        "--description=mvm's emulated host",
        "--",
    ]);
    command.arg(program);
    command
}

/// Whether the emulated host needs a variable; any other may be a secret of the command that happens
/// to start it, which it outlives.
fn is_its_own(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    // The bus is how a scope is made.
    let known = [
        &b"DBUS_SESSION_BUS_ADDRESS"[..],
        b"HOME",
        b"PATH",
        b"TMPDIR",
        b"USER",
    ];
    let is_known = known.contains(&name);
    is_known || name.starts_with(b"MVM_") || name.starts_with(b"XDG_")
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}
