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
    /// What was seen of the process before it was killed, if it had to be.
    thread: JoinHandle<Option<String>>,
}

impl Watchdog {
    /// Looks at the process `pid` with `look`, and kills it, when `timeout` has passed. The process
    /// must not have been waited for.
    pub fn new(
        pid: u32,
        timeout: Duration,
        look: impl FnOnce() -> String + Send + 'static,
    ) -> anyhow::Result<Self> {
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
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {
                        let seen = look();
                        // It may end this very moment.
                        let killed = pidfd_send_signal(&process, Signal::KILL);
                        return killed.is_ok().then_some(seen);
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

    /// Stops watching. If the process was killed, returns what was seen of it before.
    pub fn stop(self) -> anyhow::Result<Option<String>> {
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

    const LONG: Duration = Duration::from_secs(1000);

    #[test]
    fn a_process_that_takes_too_long_is_killed() {
        let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
        let watchdog = Watchdog::new(sleep.id(), LONG, || "slept".to_owned()).unwrap();
        watchdog.restart(Duration::ZERO);
        let status = sleep.wait().unwrap();
        assert!(!status.success());
        assert_eq!(watchdog.stop().unwrap().as_deref(), Some("slept"));
    }

    #[test]
    fn one_that_ends_in_time_is_not() {
        let mut quick = Command::new("sleep").arg("0").spawn().unwrap();
        let watchdog = Watchdog::new(quick.id(), LONG, String::new).unwrap();
        assert!(quick.wait().unwrap().success());
        assert_eq!(watchdog.stop().unwrap(), None);
    }
}
