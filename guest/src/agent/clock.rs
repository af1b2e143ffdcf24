//! The guest's clock, which the host moves where it is off.

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

const SECOND_NS: i128 = 1_000_000_000;

/// Moves the clock by so many nanoseconds, and tells what time it is then, in nanoseconds since 1970.
pub(super) fn moved(shift_ns: i64) -> u64 {
    if shift_ns != 0 {
        // Who may not set it keeps it, and the host hears what time it is there.
        let _ = clock_settime(ClockId::Realtime, time(now_ns() + i128::from(shift_ns)));
    }
    u64::try_from(now_ns()).unwrap_or_default()
}

fn now_ns() -> i128 {
    let now = clock_gettime(ClockId::Realtime);
    i128::from(now.tv_sec) * SECOND_NS + i128::from(now.tv_nsec)
}

fn time(ns: i128) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns.div_euclid(SECOND_NS)).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns.rem_euclid(SECOND_NS)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_not_moved_is_told() {
        let before = now_ns();
        let told = moved(0).into();
        assert!(before <= told && told <= now_ns());
    }

    #[test]
    fn a_time_has_whole_seconds_and_the_rest() {
        for (ns, seconds, rest) in [(1_500_000_000, 1, 500_000_000), (-1, -1, 999_999_999)] {
            let time = time(ns);
            assert_eq!((time.tv_sec, time.tv_nsec), (seconds, rest));
        }
    }
}
