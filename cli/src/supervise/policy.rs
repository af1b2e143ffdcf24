//! Whether a machine that has ended is started again, and when.
//!
//! The one thing to know: the rules are those of Docker's restart manager; what it calls a failure
//! is here an end with another status than 0, or one that was not the program's own.

use std::time::Duration;

use vmm::app::{Policy, Restart};

use crate::machines::record::End;

/// A program that has run for as long has started well: the next delay is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The rules, and what has happened so far.
pub struct Restarts {
    rules: Restart,
    count: u32,
    /// The last delay; none at the start and after a good run.
    delay: Option<Duration>,
}

impl Restarts {
    /// None so far.
    pub fn new(rules: &Restart) -> Self {
        Self {
            rules: rules.clone(),
            count: 0,
            delay: None,
        }
    }

    /// How many there were, the one that was decided last included.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The time until the next start of a machine that ended so and had run for `age`; none if it is
    /// not to be started.
    pub fn after(&mut self, end: &End, age: Duration) -> Option<Duration> {
        if end.reboots {
            return Some(Duration::ZERO);
        }
        let is_failure = end.status != 0 || end.reason.is_some();
        let is_wanted = match self.rules.policy {
            Policy::No => false,
            Policy::Always | Policy::UnlessStopped => true,
            Policy::OnFailure => {
                let most = self.rules.max_retries.unwrap_or(u32::MAX);
                is_failure && self.count < most
            }
        };
        if !is_wanted {
            return None;
        }
        self.count = self.count.saturating_add(1);
        let (first, longest) = (self.rules.delay.into(), self.rules.max_delay.into());
        let delay = match self.delay {
            Some(delay) if age < GOOD_RUN => delay.saturating_mul(2),
            _ => first,
        };
        self.delay = Some(delay.min(longest));
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn end(status: u8) -> End {
        End {
            at: Timestamp::UNIX_EPOCH,
            status,
            reason: None,
            reboots: false,
        }
    }

    fn restarts(text: &str) -> Restarts {
        Restarts::new(&text.parse().unwrap())
    }

    const SHORT: Duration = Duration::from_secs(1);

    /// Delays in ms after ends of that status.
    fn delays(restarts: &mut Restarts, statuses: &[u8]) -> Vec<Option<u128>> {
        let delay = |status: &u8| restarts.after(&end(*status), SHORT);
        statuses
            .iter()
            .map(delay)
            .map(|delay| Some(delay?.as_millis()))
            .collect()
    }

    #[test]
    fn a_system_that_reboots_is_started_at_once_whatever_the_policy() {
        let mut restarts = restarts("no");
        let rebooted = End {
            reboots: true,
            ..end(0)
        };
        assert_eq!(restarts.after(&rebooted, SHORT), Some(Duration::ZERO));
        assert_eq!(restarts.count(), 0, "nothing has failed");
        assert_eq!(restarts.after(&end(0), SHORT), None);
    }

    #[test]
    fn delays_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut restarts = restarts("always");
        let found = delays(&mut restarts, &[0; 12]);
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000,
        ];
        assert_eq!(found, expected.map(Some));
        let first = restarts.after(&end(1), GOOD_RUN);
        assert_eq!(first, Some(Duration::from_millis(100)));
        assert_eq!(restarts.count(), 13);
    }

    #[test]
    fn on_failure_ends_with_a_good_end_or_when_there_were_enough() {
        let good = delays(&mut restarts("on-failure"), &[1, 0]);
        assert_eq!(good, [Some(100), None]);
        let enough = delays(&mut restarts("on-failure:2"), &[1, 137, 1]);
        assert_eq!(enough, [Some(100), Some(200), None]);
        assert_eq!(delays(&mut restarts("no"), &[1]), [None]);
    }

    #[test]
    fn an_end_that_is_not_the_programs_own_is_a_failure() {
        let end = End {
            reason: Some("it was unhealthy".into()),
            reboots: false,
            ..end(0)
        };
        assert!(restarts("on-failure").after(&end, SHORT).is_some());
    }
}
