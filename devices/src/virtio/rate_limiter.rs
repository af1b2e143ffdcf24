//! How fast a device may serve its guest: token buckets for bytes and for requests.
//!
//! A request is let through while each bucket has a token, and then pays for all it was. So one that
//! is larger than a bucket goes through as well, and the next ones wait until its debt is paid. Over
//! any time the guest gets at most the burst, the rate times that time, and one request.
//!
//! The clock is the caller's, so that nothing here waits or looks at the time. Tokens are counted in
//! billionths: a rate is then a whole number of them for each nanosecond, and no refill is rounded
//! away however often it is asked for. A guest decides on sizes alone, of which none overflows.

mod throttle;

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

pub use throttle::Throttle;

/// Nanoseconds in a second, and so billionths in a token.
const BILLION: i128 = 1_000_000_000;

/// Part of a second whose tokens a bucket holds unless its burst is given: long enough that a timer
/// set for the next request is rarely late, short enough that nobody sees the steps.
const BURST_DIVISOR: u64 = 10;

/// How fast a device may serve its guest. Without either number, as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Bytes of data in a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests in a second.
    pub ops_per_second: Option<NonZeroU64>,
    /// Bytes at once after a pause; by default a tenth of a second's.
    pub burst_bytes: Option<NonZeroU64>,
}

/// What is left of a [`Rate`] for the moment.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    bytes: Option<Bucket>,
    ops: Option<Bucket>,
}

impl RateLimiter {
    /// Full buckets, `now`.
    pub fn new(rate: &Rate, now: Instant) -> Self {
        let bucket = |rate: Option<NonZeroU64>, burst: Option<NonZeroU64>| {
            rate.map(|rate| Bucket::new(rate, burst, now))
        };
        Self {
            bytes: bucket(rate.bytes_per_second, rate.burst_bytes),
            ops: bucket(rate.ops_per_second, None),
        }
    }

    /// How long the next request has to wait; `None` lets it through at once.
    pub fn wait(&mut self, now: Instant) -> Option<Duration> {
        let buckets = [&mut self.bytes, &mut self.ops].into_iter().flatten();
        buckets.filter_map(|bucket| bucket.wait(now)).max()
    }

    /// Has a request of so many bytes pay, which [`Self::wait`] let through.
    pub fn pay(&mut self, bytes: u64) {
        let dues = [(&mut self.bytes, bytes), (&mut self.ops, 1)];
        for (bucket, tokens) in dues {
            if let Some(bucket) = bucket {
                bucket.pay(tokens);
            }
        }
    }
}

/// Tokens that come at a rate, up to a number.
#[derive(Clone, Debug)]
struct Bucket {
    /// Tokens in a second, which is as many billionths in a nanosecond.
    rate: NonZeroU64,
    /// Most billionths that it holds.
    full: i128,
    /// Billionths in it; less than none is a debt.
    level: i128,
    /// When it was filled up last.
    filled: Instant,
}

impl Bucket {
    fn new(rate: NonZeroU64, burst: Option<NonZeroU64>, now: Instant) -> Self {
        let tenth = (rate.get() / BURST_DIVISOR).max(1);
        let burst = burst.map_or(tenth, NonZeroU64::get);
        let full = i128::from(burst).saturating_mul(BILLION);
        Self {
            rate,
            full,
            level: full,
            filled: now,
        }
    }

    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let passed = i128::try_from(passed).unwrap_or(i128::MAX);
        self.filled = self.filled.max(now);
        let come = passed.saturating_mul(self.rate.get().into());
        self.level = self.level.saturating_add(come).min(self.full);
        if self.level >= BILLION {
            return None;
        }
        // Rounded up: a timer for less would come before the token.
        let missing = BILLION.saturating_sub(self.level).unsigned_abs();
        let nanos = missing.div_ceil(u128::from(self.rate.get()));
        Some(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }

    fn pay(&mut self, tokens: u64) {
        let price = i128::from(tokens).saturating_mul(BILLION);
        self.level = self.level.saturating_sub(price);
    }
}

#[cfg(test)]
mod tests;
