//! A rate limiter as a queue's worker uses it: with a timer for when the next request may go.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::EventSet;

use super::{Rate, RateLimiter};
use crate::virtio::{Fault, Watch};

/// One queue's hold on a limiter that all queues of its device share. The lock is held for a
/// subtraction, and by nobody where there is no limit.
pub struct Throttle {
    limiter: Arc<Mutex<RateLimiter>>,
    timer: OwnedFd,
}

impl Throttle {
    /// As many as there are queues, of one rate.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn for_queues(rate: &Rate, queues: u16) -> anyhow::Result<Vec<Self>> {
        let limiter = Arc::new(Mutex::new(RateLimiter::new(rate, Instant::now())));
        let throttle = |_| {
            // It may be set again after it was found ready, and then has nothing to read.
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags);
            let timer = timer.context("cannot make a timer")?;
            let limiter = limiter.clone();
            Ok(Self { limiter, timer })
        };
        (0..queues).map(throttle).collect()
    }

    /// Whether the next request may go. If not, the queue is to be parked: [`Self::watch`] is ready
    /// when it may.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub fn lets_through(&mut self) -> Result<bool, Fault> {
        let wait = self.limiter().wait(Instant::now());
        let Some(wait) = wait else {
            return Ok(true);
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            // A wait too long for it, of 292 billion years, is none that anybody sees the end of.
            it_value: Timespec::try_from(wait).unwrap_or_default(),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .context("cannot set a timer")?;
        Ok(false)
    }

    /// Has a request of so many bytes pay.
    pub fn pay(&self, bytes: usize) {
        self.limiter().pay(bytes as u64);
    }

    /// The timer.
    pub fn watch(&self) -> Watch {
        Watch {
            fd: self.timer.as_raw_fd(),
            events: EventSet::IN,
        }
    }

    /// The timer is ready, and is not any more.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn rearm(&mut self) -> Result<(), Fault> {
        match rustix::io::read(&self.timer, &mut [0; size_of::<u64>()]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(Fault::Host(error.into())),
        }
    }

    fn limiter(&self) -> std::sync::MutexGuard<'_, RateLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
