//! The program, as those who watch it have it: they hear of its end, and can end it.

use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::attach::{Command, Commander};

/// For its guest to switch itself off.
const POWER_OFF_TIME: Duration = Duration::from_secs(5);

/// A program that runs.
pub struct Program {
    commander: Commander,
    /// Closed when the program has ended.
    ended: Receiver<()>,
}

impl Program {
    /// One that `commander` ends, and what to drop when it has ended.
    pub fn new(commander: Commander) -> (Self, Sender<()>) {
        let (end, ended) = mpsc::channel();
        (Self { commander, ended }, end)
    }

    /// Waits; true if the program ends meanwhile.
    pub fn has_ended_after(&self, time: Duration) -> bool {
        self.ended.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    /// Ends it: by each signal in turn, with the time that it is given after it, then with its
    /// machine.
    pub fn end(&self, signals: &[(u8, Duration)]) {
        for (signal, time) in signals {
            let _ = self.commander.tell(Command::Signal(*signal));
            if self.has_ended_after(*time) {
                return;
            }
        }
        let _ = self.commander.tell(Command::PowerOff);
        if self.has_ended_after(POWER_OFF_TIME) {
            return;
        }
        let _ = kill_process(getpid(), Signal::KILL);
        process::abort();
    }
}
