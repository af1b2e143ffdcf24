use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn rate(bytes: Option<u64>, ops: Option<u64>, burst: Option<u64>) -> Rate {
    let number = |number: Option<u64>| number.map(|number| NonZeroU64::new(number).unwrap());
    Rate {
        bytes_per_second: number(bytes),
        ops_per_second: number(ops),
        burst_bytes: number(burst),
    }
}

/// A limiter and the clock that it is shown.
struct Clocked {
    limiter: RateLimiter,
    now: Instant,
}

impl Clocked {
    fn new(rate: &Rate) -> Self {
        let now = Instant::now();
        Self {
            limiter: RateLimiter::new(rate, now),
            now,
        }
    }

    /// Requests of `bytes` that get through at once.
    fn at_once(&mut self, bytes: u64, most: u32) -> u32 {
        let mut count = 0;
        while count < most && self.limiter.wait(self.now).is_none() {
            self.limiter.pay(bytes);
            count += 1;
        }
        count
    }

    /// Waits, as a device does, until the next request may go. Returns for how long.
    fn wait(&mut self) -> Duration {
        let waited = self.limiter.wait(self.now).unwrap_or_default();
        self.now += waited;
        assert_eq!(self.limiter.wait(self.now), None, "one wait is enough");
        waited
    }
}

#[test]
fn without_a_rate_nothing_waits() {
    let mut clocked = Clocked::new(&rate(None, None, Some(1)));
    assert_eq!(clocked.at_once(u64::MAX, 1000), 1000);
}

#[test]
fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
    let mut clocked = Clocked::new(&rate(Some(1000), None, Some(4000)));
    assert_eq!(clocked.at_once(500, 1000), 8);
    // One token, and the next request's are a debt.
    assert_eq!(clocked.wait(), Duration::from_millis(1));
    assert_eq!(clocked.at_once(500, 1000), 1);
    assert_eq!(clocked.wait(), Duration::from_millis(500));
}

#[test]
fn a_bucket_never_holds_more_than_its_burst() {
    let mut clocked = Clocked::new(&rate(Some(1000), None, Some(2000)));
    clocked.now += 3600 * SECOND;
    assert_eq!(clocked.at_once(100, 1000), 20);
}

#[test]
fn by_default_a_burst_is_a_tenth_of_a_second() {
    let mut clocked = Clocked::new(&rate(Some(1 << 20), None, None));
    assert_eq!(clocked.at_once(1024, 1000), 103);
    let mut slow = Clocked::new(&rate(None, Some(1), None));
    assert_eq!(slow.at_once(0, 1000), 1);
    assert_eq!(slow.wait(), SECOND);
}

#[test]
fn a_request_larger_than_the_bucket_goes_and_is_paid_for() {
    let mut clocked = Clocked::new(&rate(Some(1000), None, Some(10)));
    assert_eq!(clocked.at_once(5000, 1000), 1);
    assert_eq!(clocked.wait(), Duration::from_millis(4991));
}

#[test]
fn requests_are_counted_apart_from_bytes() {
    let mut clocked = Clocked::new(&rate(Some(1 << 40), Some(100), None));
    assert_eq!(clocked.at_once(1, 1000), 10);
    assert_eq!(clocked.wait(), Duration::from_millis(10));
    // The scarcer of the two decides.
    clocked.limiter.pay(1 << 41);
    assert!(clocked.wait() > SECOND);
}

#[test]
fn a_clock_that_goes_back_gives_nothing() {
    let mut clocked = Clocked::new(&rate(None, Some(10), None));
    let start = clocked.now;
    clocked.now += SECOND;
    assert_eq!(clocked.at_once(0, 1000), 1);
    clocked.now = start;
    assert_eq!(clocked.at_once(0, 1000), 0);
    clocked.now += SECOND;
    assert_eq!(clocked.at_once(0, 1000), 0);
}

#[test]
fn what_is_asked_often_loses_nothing() {
    // Three tokens a second, and a look at it each 7 ns: each look's refill is far below a token.
    let mut clocked = Clocked::new(&rate(None, Some(3), None));
    assert_eq!(clocked.at_once(0, 10), 1);
    let mut waited = 0;
    while clocked.limiter.wait(clocked.now).is_some() {
        clocked.now += Duration::from_nanos(7777);
        waited += 7777;
    }
    assert_eq!(waited, 333_333_333_u64.next_multiple_of(7777));
}

proptest! {
    #[test]
    fn no_guest_gets_more_than_its_rate(
        bytes_per_second in 1..u64::MAX,
        burst in 1..u64::MAX,
        requests in prop::collection::vec(any::<u64>(), 1..64),
    ) {
        let mut clocked = Clocked::new(&rate(Some(bytes_per_second), None, Some(burst)));
        let (start, mut gone) = (clocked.now, 0_u128);
        for bytes in requests {
            let Some(until) = clocked.limiter.wait(clocked.now) else {
                clocked.limiter.pay(bytes);
                gone += u128::from(bytes);
                continue;
            };
            // What has gone is in balance once the debt is paid; a wait of centuries is long enough.
            if until > Duration::from_secs(1 << 32) {
                break;
            }
            clocked.wait();
            let passed = (clocked.now - start).as_nanos();
            let due = passed * u128::from(bytes_per_second) / 1_000_000_000;
            prop_assert!(gone <= u128::from(burst) + due);
            clocked.limiter.pay(bytes);
            gone += u128::from(bytes);
        }
    }
}
