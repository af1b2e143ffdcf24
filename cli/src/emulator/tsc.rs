#![expect(
    unsafe_code,
    reason = "the time stamp counter is read by an instruction"
)]
//! How fast the processor's time stamp counter runs.
//!
//! The one thing to know: QEMU's emulated processor shows its guest the host's own counter, and the
//! guest's kernel measures it against an emulated timer, which on a busy host is off by a multiple.
//! The guest's clock would run at that speed, so it is told the figure that is measured here. Intel
//! SDM vol. 3, 18.17 (time stamp counter).

use std::arch::x86_64::_rdtsc;
use std::thread;
use std::time::{Duration, Instant};

/// Between the two readings. An error of one microsecond in each is one part in ten thousand, which
/// the guest's kernel then refines by itself (`tsc_refine_calibration_work`).
const SPAN: Duration = Duration::from_millis(20);

/// Attempts at a reading that nothing interrupts.
const ATTEMPTS: u32 = 16;

/// Its frequency in kHz.
pub fn khz() -> u64 {
    let (start, first) = reading();
    thread::sleep(SPAN);
    let (end, last) = reading();
    let ticks = u128::from(last.wrapping_sub(first));
    let passed_ns = end.duration_since(start).as_nanos().max(1);
    u64::try_from(ticks * 1_000_000 / passed_ns).unwrap_or(u64::MAX)
}

/// The time and the counter at that time: of several pairs, the one that took the shortest.
fn reading() -> (Instant, u64) {
    let pair = || {
        let before = Instant::now();
        // SAFETY: the instruction has no precondition; each x86-64 processor has it.
        let counter = unsafe { _rdtsc() };
        (before.elapsed(), before, counter)
    };
    let first = pair();
    let best = (1..ATTEMPTS).map(|_| pair()).fold(
        first,
        |best, next| {
            if next.0 < best.0 { next } else { best }
        },
    );
    (best.1 + best.0 / 2, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (one, two) = (khz(), khz());
        assert!(one.abs_diff(two) < one / 100, "{one} kHz, {two} kHz");
    }

    #[test]
    fn it_is_the_frequency_of_a_processor() {
        assert!((200_000..20_000_000).contains(&khz()));
    }
}
