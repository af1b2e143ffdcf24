//! The process of a network: how it is started, and what it does until nobody needs it.

use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use switch::server::Server;

use super::connect;
use super::folder::Folder;
use crate::{lasting, systemd};

/// How long a network without machines is kept: for one that is started again.
const LINGER: Duration = Duration::from_secs(5);

/// Connects to the network `name`, whose process is started if there is none.
///
/// The process gets its socket from whoever starts it, so that it can be connected to at once.
///
/// # Errors
/// The host has no process left, or the folder is not this user's alone.
pub fn reach(name: &str) -> Result<UnixStream> {
    let folder = Folder::of(name);
    if let Some(stream) = connect(&folder)? {
        return Ok(stream);
    }
    let _turn = folder.turn()?;
    // Somebody else may have had the turn before.
    if let Some(stream) = connect(&folder)? {
        return Ok(stream);
    }
    let socket = folder.socket();
    let listener = lasting::listen(&socket)?;
    start(&folder, listener)?;
    UnixStream::connect(&socket).with_context(|| format!("cannot reach {folder}"))
}

fn start(folder: &Folder, listener: UnixListener) -> Result<()> {
    let path = folder.log();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let log = options
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let listener = OwnedFd::from(listener);
    // That process leaves the other one to the host, as this one may be there for long.
    let run = |mut command: Command| {
        command
            .args(["network", "serve", "--detach", folder.name()])
            .stdin(Stdio::from(listener.try_clone()?))
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .status()
            .with_context(|| format!("cannot start {folder}"))
    };
    let mut status = run(lasting::command("mvm's network")?)?;
    if !status.success() && systemd::is_service() {
        // A service that may not ask for a scope; other machines go on when it ends.
        status = run(lasting::command_here()?)?;
    }
    let said = fs::read_to_string(&path).unwrap_or_default();
    let said = said.lines().last().unwrap_or("it does not say why");
    ensure!(status.success(), "cannot start {folder}: {said}");
    Ok(())
}

/// Has another process be the network, and does not wait for it.
///
/// # Errors
/// The host has no process left.
pub fn detach(name: &str) -> Result<()> {
    lasting::command_here()?
        .args(["network", "serve", name])
        .spawn()
        .context("cannot start a process")?;
    Ok(())
}

/// Is the network `name` until it has had no machine for a while: standard input is its socket.
///
/// # Errors
/// The host's files or sockets fail.
pub fn serve(name: &str) -> Result<()> {
    let listener = lasting::take_over()?;
    let folder = Folder::of(name);
    let own = number(&folder.socket());
    let mut server = Server::new(name, listener)?;
    let turn = server.run(LINGER, || match folder.try_turn()? {
        // Somebody has removed it, and nobody can come any more; what is there is another one's.
        _ if number(&folder.socket()) != own => Ok(Some(None)),
        turn => Ok(turn.map(Some)),
    })?;
    if let Some(turn) = turn {
        folder.remove(turn);
    }
    Ok(())
}

/// By which a file is told from another one in its place; none if there is none.
fn number(path: &Path) -> Option<(u64, u64)> {
    let facts = fs::symlink_metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}
