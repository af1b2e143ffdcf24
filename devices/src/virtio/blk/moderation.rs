//! Interrupt moderation: many completions with one interrupt.
//!
//! A guest that keeps several requests under way submits them one after the other, and the host is
//! done with each before the next is there. An interrupt for each of them stops the guest while it
//! submits, so that it goes on in lockstep: a kick and an interrupt for each request, which cost
//! more than the request. So what is done waits a moment for what is about to come: as long as
//! the last ones took to come, four times, and [`WINDOW_MAX`] at most.
//!
//! One who waits for each request before the next has nothing to gain. So after a wait in vain the next
//! batch goes without, after another the next three, and so on up to [`SKIPPED_MAX`].

use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// As long as a wake-up of a thread takes, or a few: below it, waiting asleep is slower.
const WINDOW_MAX: Duration = Duration::from_micros(100);
/// Less is not worth the look at the clock.
const WINDOW_MIN: Duration = Duration::from_micros(2);

/// Doublings of the batches that go without a wait.
const DOUBLINGS_MAX: u32 = 6;
/// Batches that go without a wait between two that were in vain.
#[cfg(test)]
const SKIPPED_MAX: u32 = (1 << DOUBLINGS_MAX) - 1;

/// Of one queue.
#[derive(Default)]
pub struct Moderation {
    /// How long requests took to come that were waited for, of late.
    usual: Option<Duration>,
    /// More came in this batch.
    has_come: bool,
    /// Batches in a row that were waited in vain for.
    misses: u32,
    /// Batches that go without a wait from here on.
    skip: u32,
}

impl Moderation {
    /// Asks again and again whether there is more to serve, for as long as that pays. If it does not
    /// come, the batch has ended, and its interrupt is due.
    pub fn more_comes(&mut self, mut is_there: impl FnMut() -> bool) -> bool {
        if let Some(left) = self.skip.checked_sub(1) {
            self.skip = left;
            return false;
        }
        let window = self.window();
        let start = Instant::now();
        loop {
            if is_there() {
                self.came(start.elapsed());
                return true;
            }
            if start.elapsed() >= window {
                self.end();
                return false;
            }
            spin_loop();
        }
    }

    fn window(&self) -> Duration {
        self.usual.map_or(WINDOW_MAX, |usual| {
            usual.saturating_mul(4).clamp(WINDOW_MIN, WINDOW_MAX)
        })
    }

    fn came(&mut self, after: Duration) {
        let before = self.usual.unwrap_or(after).min(WINDOW_MAX);
        self.usual = before
            .saturating_mul(3)
            .saturating_add(after)
            .checked_div(4);
        self.has_come = true;
        self.misses = 0;
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.has_come) {
            return;
        }
        // What was usual is so no more.
        self.usual = None;
        self.misses = self.misses.saturating_add(1).min(DOUBLINGS_MAX);
        self.skip = (1u32 << self.misses).saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether somebody looked for more at the end of a batch of `requests` besides the first.
    fn batch(moderation: &mut Moderation, requests: u32) -> bool {
        let mut left = requests;
        let mut looked = false;
        loop {
            let more = moderation.more_comes(|| {
                looked = true;
                left > 0
            });
            if !more {
                return looked;
            }
            left -= 1;
        }
    }

    #[test]
    fn who_submits_one_by_one_is_hardly_ever_waited_for() {
        let mut moderation = Moderation::default();
        let waits = (0..1000).filter(|_| batch(&mut moderation, 0)).count();
        // 1, 3, 7, 15, 31 and 63 batches between the first ones, and then always 63.
        assert_eq!(waits, 6 + (1000 - 63) / (1 + SKIPPED_MAX as usize));
    }

    #[test]
    fn who_submits_several_is_waited_for_each_time() {
        let mut moderation = Moderation::default();
        assert!((0..100).all(|_| batch(&mut moderation, 15)));
    }

    #[test]
    fn who_begins_to_submit_several_is_seen_soon() {
        let mut moderation = Moderation::default();
        for _ in 0..1000 {
            batch(&mut moderation, 0);
        }
        let late = (0..=SKIPPED_MAX).position(|_| batch(&mut moderation, 15));
        assert!(late.is_some());
        assert!((0..100).all(|_| batch(&mut moderation, 15)));
    }

    #[test]
    fn a_wait_is_as_long_as_usual_and_no_longer() {
        let mut moderation = Moderation::default();
        assert_eq!(moderation.window(), WINDOW_MAX);
        for _ in 0..100 {
            moderation.came(Duration::from_micros(5));
        }
        assert_eq!(moderation.window(), Duration::from_micros(20));
        moderation.came(Duration::from_secs(1));
        assert_eq!(moderation.window(), WINDOW_MAX);
        moderation.came(Duration::ZERO);
        assert!(moderation.window() >= WINDOW_MIN);
    }
}
