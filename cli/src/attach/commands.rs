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
    /// Give the program's terminal this size.
    Resize {
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        cols: u16,
    },
    /// Switch the machine off.
    PowerOff,
    /// Look at the machine's clock.
    Clock,
}

/// A command on the wire: a signal's number or one that is no signal's, and what goes with
/// it. All are as long, so that reads end where one does.
type Record = [u8; 5];

const POWER_OFF: u8 = 0;
const RESIZE: u8 = 255;
const CLOCK: u8 = 254;

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
        let record: Record = match command {
            Command::Signal(signal) => [signal, 0, 0, 0, 0],
            Command::PowerOff => [POWER_OFF, 0, 0, 0, 0],
            Command::Clock => [CLOCK, 0, 0, 0, 0],
            Command::Resize { rows, cols } => {
                let ([r0, r1], [c0, c1]) = (rows.to_ne_bytes(), cols.to_ne_bytes());
                [RESIZE, r0, r1, c0, c1]
            }
        };
        // A record of a few bytes is taken as a whole or not at all.
        (&*self.0)
            .write_all(&record)
            .context("the program has ended")
    }
}

impl Commands {
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Those that have come; `None` if nobody is left to tell any.
    pub fn pending(&mut self) -> Option<Vec<Command>> {
        let mut bytes = [0; 16 * size_of::<Record>()];
        let count = match self.0.read(&mut bytes) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(_) => 0,
        };
        let (records, _) = bytes[..count].as_chunks();
        Some(records.iter().copied().map(command).collect())
    }
}

fn command([kind, r0, r1, c0, c1]: Record) -> Command {
    match kind {
        POWER_OFF => Command::PowerOff,
        CLOCK => Command::Clock,
        RESIZE => Command::Resize {
            rows: u16::from_ne_bytes([r0, r1]),
            cols: u16::from_ne_bytes([c0, c1]),
        },
        signal => Command::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_as_they_were_told_however_many_wait() {
        let (commander, mut commands) = commands().unwrap();
        let size = Command::Resize {
            rows: 255,
            cols: 300,
        };
        let told = [Command::Signal(15), size, Command::PowerOff, Command::Clock];
        let told: Vec<_> = told.into_iter().cycle().take(50).collect();
        for command in &told {
            commander.tell(*command).unwrap();
        }
        let mut heard = Vec::new();
        while heard.len() < told.len() {
            heard.extend(commands.pending().unwrap());
        }
        assert_eq!(heard, told);
        drop(commander);
        assert_eq!(commands.pending(), None);
    }
}
