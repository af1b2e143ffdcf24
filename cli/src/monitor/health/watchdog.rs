//! Whether a program has been silent for too long (`WatchdogSec=` of `systemd.service(5)`).
//!
//! The one thing to know: time counts in small steps, each only if the machine ran in it. So neither
//! a pause nor what is left of it is held against the program.

use std::time::Duration;

/// Steps in a period, and the longest.
const STEPS: u32 = 8;
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// A period, and how long the program has said nothing.
#[derive(Debug)]
pub struct Watchdog {
    period: Option<Duration>,
    is_armed: bool,
    silent: Duration,
}

impl Watchdog {
    /// One that waits for [`Self::arm`]; it never bites without a period.
    pub fn new(period: Option<Duration>) -> Self {
        Self {
            period,
            is_armed: false,
            silent: Duration::ZERO,
        }
    }

    /// How long a step is.
    pub fn step(&self) -> Duration {
        let step = self.period.map_or(LONGEST_STEP, |period| period / STEPS);
        step.min(LONGEST_STEP)
    }

    /// Time counts from now on.
    pub fn arm(&mut self) {
        if !self.is_armed {
            self.is_armed = true;
            self.silent = Duration::ZERO;
        }
    }

    /// The program has said that it lives.
    pub fn hear(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// So much time has passed in which the machine ran. True if that was too much.
    pub fn pass(&mut self, time: Duration) -> bool {
        let Some(period) = self.period.filter(|_| self.is_armed) else {
            return false;
        };
        self.silent = self.silent.saturating_add(time);
        self.silent >= period
    }

    /// The time, for what is said of it.
    pub fn period(&self) -> Duration {
        self.period.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_bites_after_a_period_of_silence() {
        let mut watchdog = Watchdog::new(Some(3 * SECOND));
        // The program is still starting.
        assert!(!watchdog.pass(10 * SECOND));
        watchdog.arm();
        assert!(!watchdog.pass(2 * SECOND));
        watchdog.hear();
        watchdog.arm();
        assert!(!watchdog.pass(2 * SECOND));
        assert!(watchdog.pass(SECOND));
    }

    #[test]
    fn without_a_period_it_never_bites() {
        let mut watchdog = Watchdog::new(None);
        watchdog.arm();
        assert!(!watchdog.pass(Duration::MAX));
        assert_eq!(watchdog.step(), SECOND);
    }

    #[test]
    fn a_step_is_a_part_of_the_period() {
        let step = |period| Watchdog::new(Some(period)).step();
        assert_eq!(step(SECOND), SECOND / 8);
        assert_eq!(step(100 * SECOND), SECOND);
    }
}
