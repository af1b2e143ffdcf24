//! Processes that outlive the command that needs them first, since they serve others as well.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use guest::descriptors;

use crate::systemd;

/// The command that executes this program once more; what systemd calls it is `description`, if that is
/// asked.
///
/// # Errors
/// Nobody knows where the program is.
pub fn command(description: &str) -> Result<Command> {
    let program = program()?;
    Ok(with_its_own(own_scope(&program, description)))
}

/// The same where it is: for when there is no scope to be had.
///
/// # Errors
/// As [`command`].
pub fn command_here() -> Result<Command> {
    Ok(with_its_own(Command::new(program()?)))
}

/// Listens at `socket`, which nobody but this user can connect to, in place of one that is left over.
///
/// # Errors
/// The host does not let it.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", socket.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))
        .with_context(|| format!("cannot close {} to others", socket.display()))?;
    Ok(listener)
}

/// Makes this process one that lasts; the socket that it was given as its standard input.
///
/// # Errors
/// It was given none, or cannot leave where it is.
pub fn take_over() -> Result<UnixListener> {
    // Away from the terminal and the folder of the command that needed it first.
    rustix::process::setsid().context("cannot leave the terminal")?;
    env::set_current_dir("/").context("cannot change to /")?;
    descriptors::raise_limit();
    let listener = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("there is no socket")?;
    Ok(listener.into())
}

/// The program of this process; one that was replaced meanwhile is had by way of the process.
fn program() -> Result<PathBuf> {
    let path = env::current_exe().context("cannot tell where mvm is")?;
    if path.exists() {
        return Ok(path);
    }
    Ok(format!("/proc/{}/exe", std::process::id()).into())
}

fn with_its_own(mut command: Command) -> Command {
    command
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| is_its_own(name)));
    command
}

/// The command that executes `program`; as part of a service, outside of it: it shall not end with the
/// service that needed it first.
fn own_scope(program: &Path, description: &str) -> Command {
    if !systemd::is_service() {
        return Command::new(program);
    }
    let mut command = Command::new("systemd-run");
    if !rustix::process::getuid().is_root() {
        command.arg("--user");
    }
    command.args(["--scope", "--quiet", "--collect"]);
    command.arg(format!("--description={description}"));
    command.arg("--").arg(program);
    command
}

/// Whether it needs a variable; any other may be a secret of the command that happens to start it.
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
