//! When the emulated host has been without work for long enough to end.

use std::time::{Duration, Instant};

use anyhow::Result;
use vmm::settings::Setting;

/// How long it waits for another command: the next one within a session of work finds it running,
/// and memory is not held overnight.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Since when there is no work.
pub struct Idle {
    timeout: Duration,
    since: Option<Instant>,
}

impl Idle {
    /// Idle from `now` on.
    ///
    /// # Errors
    /// How long it may be is set to what is no number.
    pub fn new(now: Instant) -> Result<Self> {
        let setting = Setting::EmulatorIdleSeconds.get()?;
        let seconds = setting.map(|value| value.number()).transpose()?;
        Ok(Self {
            timeout: seconds.map_or(TIMEOUT, Duration::from_secs),
            since: Some(now),
        })
    }

    /// Tells how much work there is.
    pub fn update(&mut self, work: usize, now: Instant) {
        self.since = match self.since {
            _ if work > 0 => None,
            None => Some(now),
            since => since,
        };
    }

    /// How long it may go on like this; `None` as long as there is work.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some(
            self.timeout
                .saturating_sub(now.saturating_duration_since(since)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(now: Instant) -> Idle {
        Idle {
            timeout: Duration::from_secs(60),
            since: Some(now),
        }
    }

    #[test]
    fn time_runs_while_there_is_no_work() {
        let start = Instant::now();
        let mut idle = idle(start);
        idle.update(0, start + Duration::from_secs(20));
        assert_eq!(
            idle.left(start + Duration::from_secs(20)),
            Some(Duration::from_secs(40))
        );
        assert_eq!(
            idle.left(start + Duration::from_secs(90)),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn work_stops_the_time_and_its_end_starts_it_anew() {
        let start = Instant::now();
        let mut idle = idle(start);
        idle.update(2, start);
        assert_eq!(idle.left(start + Duration::from_secs(900)), None);
        let end = start + Duration::from_secs(901);
        idle.update(0, end);
        assert_eq!(idle.left(end), Some(Duration::from_secs(60)));
    }
}
