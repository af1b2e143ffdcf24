//! All devices of a machine as one: whether each has a driver, and whether one of their threads is
//! at work.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at whether all threads rest.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// The devices of a machine. Each is entered when it is made.
#[derive(Default)]
pub struct Roster {
    /// Devices that never had a driver.
    idle: Mutex<usize>,
    changed: Condvar,
    /// Shared by threads that are at work, which may write to guest memory.
    work: RwLock<()>,
}

impl Roster {
    /// Enters a device.
    pub(crate) fn enter(&self) {
        let mut idle = self.idle();
        *idle = idle.saturating_add(1);
    }

    /// One of the devices has its first driver.
    pub(crate) fn driven(&self) {
        let mut idle = self.idle();
        *idle = idle.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Held by a device's thread while it serves something.
    pub(super) fn at_work(&self) -> RwLockReadGuard<'_, ()> {
        self.work.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until each device has had a driver, and tells whether that is so after `patience`.
    pub fn wait_for_drivers(&self, patience: Duration) -> bool {
        let idle = self.idle();
        let waited = self
            .changed
            .wait_timeout_while(idle, patience, |idle| *idle > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Does something while no device's thread is at work, so that none writes to guest memory.
    /// Nothing if one has been at work for as long as `patience`: it may be waiting for the host.
    pub fn during_rest<T>(&self, patience: Duration, act: impl FnOnce() -> T) -> Option<T> {
        let start = Instant::now();
        let _rest = loop {
            match self.work.try_write() {
                Ok(guard) => break guard,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    thread::sleep(LOOK_PERIOD);
                }
                Err(TryLockError::WouldBlock) => return None,
            }
        };
        Some(act())
    }

    fn idle(&self) -> MutexGuard<'_, usize> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_drivers_when_the_last_has_one() {
        let roster = Roster::default();
        assert!(roster.wait_for_drivers(Duration::ZERO));
        roster.enter();
        roster.enter();
        roster.driven();
        assert!(!roster.wait_for_drivers(Duration::ZERO));
        thread::scope(|scope| {
            scope.spawn(|| roster.driven());
            assert!(roster.wait_for_drivers(Duration::from_secs(60)));
        });
    }

    #[test]
    fn who_is_at_work_is_left_alone() {
        let roster = Roster::default();
        let work = roster.at_work();
        assert_eq!(roster.during_rest(LOOK_PERIOD, || 1), None);
        drop(work);
        let other_has_to_wait = || roster.work.try_read().is_err();
        assert_eq!(
            roster.during_rest(LOOK_PERIOD, other_has_to_wait),
            Some(true)
        );
    }
}
