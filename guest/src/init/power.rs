//! The end of the machine.
//!
//! The one thing to know: nothing here returns or fails; whatever goes wrong, the next step follows.

use std::time::{Duration, Instant};

use super::volumes;
use crate::agent::{child_signals, signal_all};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};

/// Time that programs have between SIGTERM and SIGKILL. Whoever wants to wait longer for the app
/// does so before the power goes.
const GRACE: Duration = Duration::from_secs(1);

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Says in the kernel log why the machine cannot go on, and resets it: the host takes that for an
/// error, even if nobody could tell it more, whereas power-off is the good end of a program.
pub(super) fn fail(reason: &str) -> ! {
    // <2> is KERN_CRIT. One line is one record.
    let record = format!("<2>mvm-init: {}\n", reason.replace('\n', " "));
    let _ = std::fs::write("/dev/kmsg", record);
    end_programs();
    reset()
}

/// Ends all programs, writes everything to disk and switches the machine off.
pub(super) fn off() -> ! {
    end_programs();
    let _ = reboot(RebootCommand::PowerOff);
    // Where there is no power switch the kernel halts instead, or returns.
    reset()
}

fn reset() -> ! {
    let _ = reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}

/// Ends all programs and writes everything to disk.
fn end_programs() {
    signal_all(SIGTERM);
    let deadline = Instant::now() + GRACE;
    if let Ok(children) = child_signals() {
        while is_any_left() && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut fds = [PollFd::new(&children, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&left));
            let _ = rustix::io::read(&children, &mut [0; 1024]);
        }
    }
    signal_all(SIGKILL);
    rustix::fs::sync();
    volumes::close();
}

/// Waits for the children that have ended; all programs are children or become such.
fn is_any_left() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
