//! What others than the user at the terminal want of a running program.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, Result};

/// A wish of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the program this signal. Unlike one to `mvm` itself, it counts towards no impatience.
    Signal(u8),
    /// Switch the machine off.
    PowerOff,
}

/// On the wire: a signal's number, or this, which is no signal's.
const POWER_OFF: u8 = 0;

/// Where wishes are told; from any thread.
#[derive(Clone)]
pub struct Commander(Arc<UnixStream>);

/// Where the loop hears of them.
pub struct Commands(UnixStream);

/// Both ends.
pub fn commands() -> Result<(Commander, Commands)> {
    let (write, read) = UnixStream::pair().context("cannot make a socket pair")?;
    write.set_nonblocking(true)?;
    read.set_nonblocking(true)?;
    Ok((Commander(Arc::new(write)), Commands(read)))
}

impl Commander {
    /// Tells a wish. Fails if the program has ended, or more wait than anyone means.
    pub fn tell(&self, command: Command) -> Result<()> {
        let byte = match command {
            Command::Signal(signal) => signal,
            Command::PowerOff => POWER_OFF,
        };
        (&*self.0)
            .write_all(&[byte])
            .context("the program has ended")
    }
}

impl Commands {
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Those that have come; `None` if nobody is left to tell any.
    pub(super) fn pending(&mut self) -> Option<Vec<Command>> {
        let mut bytes = [0; 64];
        let count = match self.0.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(_) => 0,
        };
        let command = |byte: &u8| match *byte {
            POWER_OFF => Command::PowerOff,
            signal => Command::Signal(signal),
        };
        Some(bytes[..count].iter().map(command).collect())
    }
}
