//! How a program that a command was attached to has ended.

use anyhow::{Result, bail};
use guest::protocol::Exit;
use vmm::app::Signal;

use crate::output::say;

/// How a program ended, or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and ended.
    Exited(Exit),
    /// It was not started.
    Refused {
        /// 125 (the guest failed), 126 (cannot be executed) or 127 (not found).
        code: u8,
        /// Why, in one line.
        message: String,
    },
    /// It was told to end and did not before the user lost patience: the second SIGINT or SIGTERM,
    /// or Ctrl-C again and again on a terminal.
    GaveUp {
        /// The number of that signal.
        signal: u8,
    },
    /// It goes on, and its user has left it.
    Detached,
    /// Somebody had its machine switched off ([`Command::PowerOff`]), with which it went.
    SwitchedOff,
    /// The guest closed the connection before the program's end was told.
    Lost,
}

impl Outcome {
    /// The exit status of a command that ended so.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exited(exit) => exit.status(),
            Self::Refused { code, .. } => *code,
            Self::GaveUp { signal } => Exit::Signal(*signal).status(),
            Self::Detached => 0,
            Self::SwitchedOff => Exit::Signal(Signal::KILL.number()).status(),
            Self::Lost => 125,
        }
    }

    /// The exit status of a command that ran one more program in the machine that `whose` names, and
    /// says why there was none.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn tell(&self, whose: &str) -> Result<u8> {
        match self {
            Self::Lost | Self::SwitchedOff => bail!("{whose} has ended"),
            Self::Refused { message, .. } => say(format_args!("{message}")),
            _ => {}
        }
        Ok(self.status())
    }
}
