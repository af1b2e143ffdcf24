//! The guest's clock, which shall be the host's.
//!
//! The one thing to know: an answer says what time it was at some moment while it was waited for, so a
//! clock is judged no sharper than that. It is moved by a difference, which is as right when it is read
//! late.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Between two looks. A clock that is as wrong as the hardware of a host may be (500 ppm) is off by 0.15 s
/// after it.
const PERIOD: Duration = Duration::from_secs(300);

/// What a guest's clock may be off.
const OFF_MAX_NS: i128 = 500_000_000;

/// The looks at a guest's clock.
pub struct Clock {
    /// Readable when the next is due, and when the host's own clock was set, as it is after a sleep.
    timer: OwnedFd,
    look: Option<Look>,
    /// Whether another look is wanted after that.
    again: bool,
}

/// A question that waits for its answer.
struct Look {
    asked: Instant,
    /// Whether the clock has not been moved on account of it.
    is_first: bool,
}

impl Look {
    fn now(is_first: bool) -> Self {
        let asked = Instant::now();
        Self { asked, is_first }
    }
}

impl Clock {
    /// Looks from time to time.
    ///
    /// # Errors
    /// The host has no timer left.
    pub fn start() -> Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags);
        let clock = Self {
            timer: timer.context("cannot make a timer")?,
            look: None,
            again: false,
        };
        clock.set_timer();
        Ok(clock)
    }

    /// Readable when [`Self::take_tick`] is due.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// The timer has gone off.
    pub fn take_tick(&self) {
        // It fails where the host's clock was set.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        self.set_timer();
    }

    fn set_timer(&self) {
        let next = SystemTime::now() + PERIOD;
        let next = next.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timer = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(next).unwrap_or_default(),
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        // It fails for no time that a clock can have.
        let _ = timerfd_settime(&self.timer, flags, &timer);
    }

    /// A look is wanted. True if the guest is to be asked what time it is.
    pub fn ask(&mut self) -> bool {
        self.again = self.look.is_some();
        if !self.again {
            self.look = Some(Look::now(true));
        }
        !self.again
    }

    /// Takes an answer. By how many nanoseconds the guest is to move its clock, 0 to be asked once more,
    /// if it is to do either.
    ///
    /// # Errors
    /// It was not asked.
    pub fn hear(&mut self, guest_ns: u64) -> Result<Option<i64>> {
        let look = self.look.take().context("a time that was not asked for")?;
        let host = SystemTime::now().duration_since(UNIX_EPOCH);
        let host_ns = host.unwrap_or_default().as_nanos().cast_signed();
        let took_ns = look.asked.elapsed().as_nanos().cast_signed();
        // One that cannot be moved, or says so, is not tried to be again and again.
        let shift_ns = if look.is_first {
            shift(host_ns, took_ns, guest_ns.into())
        } else {
            0
        };
        if shift_ns != 0 {
            self.look = Some(Look::now(false));
            return Ok(Some(shift_ns));
        }
        Ok(self.ask_again().then_some(0))
    }

    fn ask_again(&mut self) -> bool {
        std::mem::take(&mut self.again) && self.ask()
    }
}

/// How far a clock is from `host_ns`, if it said `guest_ns` at most `took_ns` ago; 0 if that is as good as
/// nothing.
fn shift(host_ns: i128, took_ns: i128, guest_ns: i128) -> i64 {
    let (earliest, latest) = (host_ns - took_ns - OFF_MAX_NS, host_ns + OFF_MAX_NS);
    if (earliest..=latest).contains(&guest_ns) {
        return 0;
    }
    let shift_ns = host_ns - took_ns / 2 - guest_ns;
    i64::try_from(shift_ns).unwrap_or(if shift_ns < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    #[test]
    fn what_the_answer_took_is_held_against_nobody() {
        let host_ns = 1_000_000 * MS;
        for (took_ms, behind_ms, shift_ms) in [
            (0, 0, 0),
            (0, 499, 0),
            (0, 600, 600),
            (0, -600, -600),
            (200, 600, 0),
            (200, 800, 700),
            (200, -600, -700),
            (60_000, 60_000, 0),
            (60_000, 90_000, 60_000),
        ] {
            let shift_ns = shift(host_ns, took_ms * MS, host_ns - behind_ms * MS);
            assert_eq!(i128::from(shift_ns), shift_ms * MS, "{took_ms} {behind_ms}");
        }
        assert_eq!(shift(0, 0, u64::MAX.into()), i64::MIN);
    }

    #[test]
    fn a_clock_is_moved_once_for_each_look() {
        let mut clock = Clock::start().unwrap();
        assert!(clock.hear(0).is_err());
        assert!(clock.ask());
        let shift = clock.hear(0).unwrap().unwrap();
        assert!(shift > 0);
        // It says that it stayed where it was.
        assert_eq!(clock.hear(0).unwrap(), None);
        assert!(clock.hear(0).is_err());
        assert!(clock.ask());
    }

    #[test]
    fn who_wants_a_look_during_another_gets_one_after_it() {
        let mut clock = Clock::start().unwrap();
        let right = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos()).unwrap()
        };
        assert!(clock.ask());
        assert!(!clock.ask());
        assert_eq!(clock.hear(right()).unwrap(), Some(0));
        assert_eq!(clock.hear(right()).unwrap(), None);
    }

    #[test]
    fn nothing_is_due_at_first() {
        let clock = Clock::start().unwrap();
        let read = rustix::io::read(&clock.timer, &mut [0; 8]);
        assert_eq!(read, Err(rustix::io::Errno::AGAIN));
    }
}
