//! Ends a process that takes too long, so that a test fails rather than hangs.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Watches over one process.
pub struct Watchdog {
    /// A new deadline.
    deadline: Sender<Instant>,
    /// Whether it had to end the process.
    thread: JoinHandle<bool>,
}

impl Watchdog {
    /// Kills the process `pid` when `timeout` has passed. The process must not have been waited for.
    pub fn new(pid: u32, timeout: Duration) -> anyhow::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // The descriptor stays that process's, whoever has its number later.
        let process = pidfd_open(pid.context("no process")?, PidfdFlags::empty())
            .context("cannot watch over a process")?;
        let (sender, deadlines) = mpsc::channel();
        let mut deadline = Instant::now() + timeout;
        let thread = thread::spawn(move || {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match deadlines.recv_timeout(left) {
                    Ok(new) => deadline = new,
                    Err(RecvTimeoutError::Disconnected) => return false,
                    // It may end this very moment.
                    Err(RecvTimeoutError::Timeout) => {
                        return pidfd_send_signal(&process, Signal::KILL).is_ok();
                    }
                }
            }
        });
        Ok(Self {
            deadline: sender,
            thread,
        })
    }

    /// Gives the process so long from now.
    pub fn restart(&self, timeout: Duration) {
        // It has ended if nobody listens: the process was killed already.
        let _ = self.deadline.send(Instant::now() + timeout);
    }

    /// Stops watching. True if the process was killed.
    pub fn stop(self) -> anyhow::Result<bool> {
        drop(self.deadline);
        self.thread
            .join()
            .map_err(|_| anyhow!("the watchdog panicked"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_takes_too_long_is_killed() {
        let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
        let watchdog = Watchdog::new(sleep.id(), Duration::from_secs(1000)).unwrap();
        watchdog.restart(Duration::ZERO);
        let status = sleep.wait().unwrap();
        assert!(!status.success());
        assert!(watchdog.stop().unwrap());
    }

    #[test]
    fn one_that_ends_in_time_is_not() {
        let mut quick = Command::new("sleep").arg("0").spawn().unwrap();
        let watchdog = Watchdog::new(quick.id(), Duration::from_secs(1000)).unwrap();
        assert!(quick.wait().unwrap().success());
        assert!(!watchdog.stop().unwrap());
    }
}
