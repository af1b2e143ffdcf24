//! The books on a program's health: what each check's outcome makes of it.
//!
//! The one thing to know: the rules are those of Docker's HEALTHCHECK, so that a check can be taken
//! over as it is.

use std::time::Duration;

use vmm::app::HealthCheck;

use crate::control::message::{Health, HealthStatus, Verdict};

/// Between checks while the program starts.
const START_INTERVAL: Duration = Duration::from_secs(1);

/// What has changed by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that anyone need be told.
    None,
    /// It does well now.
    Healthy,
    /// It does badly now.
    Unhealthy,
}

/// The rules, and where the program stands.
pub struct Books {
    interval: Duration,
    retries: u32,
    start_period: Duration,
    health: Health,
}

impl Books {
    /// A program that has just started.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            interval: check.interval.into(),
            retries: check.retries,
            start_period: check.start_period.into(),
            health: Health::default(),
        }
    }

    /// Where it stands.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Time until the next check of a program that has run for `age`.
    pub fn pause(&self, age: Duration) -> Duration {
        if self.is_starting(age) {
            self.interval.min(START_INTERVAL)
        } else {
            self.interval
        }
    }

    /// Takes the outcome of a check that began when the program had run for `age`.
    pub fn take(&mut self, verdict: Verdict, age: Duration) -> Change {
        let was = self.health.status;
        let is_starting = self.is_starting(age);
        let has_succeeded = verdict.is_good;
        self.health.last = Some(verdict);
        if has_succeeded {
            self.health.failing = 0;
            self.health.status = HealthStatus::Healthy;
        } else if !is_starting {
            self.health.failing = self.health.failing.saturating_add(1);
            if self.health.failing >= self.retries {
                self.health.status = HealthStatus::Unhealthy;
            }
        }
        match self.health.status {
            now if now == was => Change::None,
            HealthStatus::Healthy => Change::Healthy,
            HealthStatus::Unhealthy => Change::Unhealthy,
            HealthStatus::Starting => Change::None,
        }
    }

    fn is_starting(&self, age: Duration) -> bool {
        self.health.status == HealthStatus::Starting && age < self.start_period
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use vmm::app::{OnFailure, Tcp};

    use super::*;

    fn books(start_period: u32) -> Books {
        Books::new(&HealthCheck {
            exec: None,
            http: None,
            tcp: Some(Tcp { port: 80 }),
            unix: None,
            disable: false,
            interval: vmm::app::Duration::from_secs(30),
            timeout: vmm::app::Duration::from_secs(1),
            retries: 3,
            start_period: vmm::app::Duration::from_secs(start_period),
            on_failure: OnFailure::None,
        })
    }

    /// Takes outcomes, one a second.
    fn changes(books: &mut Books, outcomes: &[bool]) -> Vec<Change> {
        let take = |(age, is_good): (u64, &bool)| {
            let verdict = Verdict {
                at: Timestamp::UNIX_EPOCH,
                is_good: *is_good,
                output: String::new(),
            };
            books.take(verdict, Duration::from_secs(age))
        };
        (0..).zip(outcomes).map(take).collect()
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        use Change::{Healthy, None, Unhealthy};
        let mut books = books(0);
        let outcomes = [
            true, false, false, true, false, false, false, false, true, true,
        ];
        let expected = [
            Healthy, None, None, None, None, None, Unhealthy, None, Healthy, None,
        ];
        assert_eq!(changes(&mut books, &outcomes), expected);
        assert_eq!(books.health().failing, 0);
    }

    #[test]
    fn failures_while_it_starts_do_not_count() {
        use Change::{None, Unhealthy};
        let mut books = books(5);
        let expected = [None, None, None, None, None, None, None, Unhealthy];
        assert_eq!(changes(&mut books, &[false; 8]), expected);
    }

    #[test]
    fn after_a_success_they_count_at_once() {
        use Change::{Healthy, None, Unhealthy};
        let mut books = books(100);
        let outcomes = [false, true, false, false, false];
        let expected = [None, Healthy, None, None, Unhealthy];
        assert_eq!(changes(&mut books, &outcomes), expected);
    }

    #[test]
    fn checks_come_more_often_while_it_starts() {
        let mut books = books(5);
        assert_eq!(books.pause(Duration::ZERO), START_INTERVAL);
        assert_eq!(books.pause(Duration::from_secs(5)), books.interval);
        changes(&mut books, &[true]);
        assert_eq!(books.pause(Duration::ZERO), books.interval);
        books.health.status = HealthStatus::Starting;
        books.interval = Duration::from_millis(50);
        assert_eq!(books.pause(Duration::ZERO), books.interval);
    }
}
