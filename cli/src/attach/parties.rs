//! Who has to do with a running program: its streams, the program itself, and others.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use guest::protocol::Exec;

use super::{Clock, Commands, DetachKeys, signals};

/// The caller's standard streams, in descriptors of their own.
pub struct Stdio {
    /// Read if the execution wants input.
    pub stdin: OwnedFd,
    /// Where the program's output goes; with a terminal, its errors too.
    pub stdout: OwnedFd,
    /// Where the program's errors go.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Those of this process.
    pub fn inherited() -> Result<Self> {
        let copy = |fd: BorrowedFd<'_>| {
            rustix::io::fcntl_dupfd_cloexec(fd, 3).context("cannot copy a standard stream")
        };
        Ok(Self {
            stdin: copy(io::stdin().as_fd())?,
            stdout: copy(io::stdout().as_fd())?,
            stderr: copy(io::stderr().as_fd())?,
        })
    }
}

/// What there is of a program that a command is attached to.
#[derive(Clone, Copy)]
pub enum Program<'a> {
    /// It is started for it.
    New(&'a Exec),
    /// It runs, and is not this command's alone: a reader that goes closes no stream of it.
    Running {
        /// Whether it has a terminal.
        has_terminal: bool,
        /// Whether it takes input.
        takes_input: bool,
        /// Whether it gets the signals that this command gets; else those that ask to end have this
        /// command leave.
        gets_signals: bool,
    },
}

impl Program<'_> {
    pub(super) fn has_terminal(self) -> bool {
        match self {
            Self::New(exec) => exec.tty.is_some(),
            Self::Running { has_terminal, .. } => has_terminal,
        }
    }

    pub(super) fn takes_input(self) -> bool {
        match self {
            Self::New(exec) => exec.stdin,
            Self::Running { takes_input, .. } => takes_input,
        }
    }
}

/// Who else has to do with the program, and how the one at its streams leaves it.
#[derive(Default)]
pub struct Company<'a> {
    /// Keys of a terminal that leave the program to itself.
    pub keys: DetachKeys,
    /// What others want of it.
    pub commands: Option<Commands>,
    /// How the guest's clock is kept right, by who runs the machine.
    pub clock: Option<Clock>,
    /// Called once it runs.
    pub started: Option<Box<dyn FnOnce() + 'a>>,
    /// Called with its first output.
    pub spoke: Option<Box<dyn FnOnce() + 'a>>,
    /// What SIGTERM is for the program, if not SIGTERM.
    pub stop_signal: Option<u8>,
    /// Whether a second request to end is the program's, too, which makes of it what it will. A third is
    /// this process' in any case.
    pub hears_twice: bool,
    /// Whether all is the program's that this process gets: each signal, however often, and each key. So
    /// it is for who stands in for a process of a container.
    pub hears_all: bool,
}

impl Company<'_> {
    /// A signal of this process as the program gets it.
    pub(super) fn translate(&self, signal: u8) -> u8 {
        match self.stop_signal {
            Some(stop) if signal == signals::TERMINATE => stop,
            _ => signal,
        }
    }
}
