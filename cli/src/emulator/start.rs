//! Reaching the emulated host, and starting it if there is none.
//!
//! The one thing to know: the command that starts it makes the socket itself and hands it over. So
//! it can be connected to at once, by this command and any other, and all wait for the same hello.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::folder::Folder;
use super::machine::open_log;
use crate::lasting;

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
    let listener = lasting::listen(&socket)?;
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
    lasting::command("mvm's emulated host")?
        .args(["emulator", "serve"])
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the emulated host")?;
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}
