//! Ctrl-C at a terminal in raw mode.
//!
//! The one thing to know: there it is a byte for the program, which may ignore it or hang, and no
//! signal can be typed. So Ctrl-C again and again, with no other key between, is a word to `mvm`.

use std::time::{Duration, Instant};

/// What a terminal sends for Ctrl-C.
const INTERRUPT: u8 = 3;
/// How many say that the user will not wait; two are usual in shells and editors.
const ENOUGH: usize = 3;
/// Within this time.
const PERIOD: Duration = Duration::from_secs(1);

/// Those that were typed last.
#[derive(Default)]
pub(super) struct Interrupts(Vec<Instant>);

impl Interrupts {
    /// Looks at what was typed, and says whether the user will not wait any more.
    pub(super) fn are_enough(&mut self, typed: &[u8], now: Instant) -> bool {
        for byte in typed {
            if *byte == INTERRUPT {
                self.0.retain(|then| now.duration_since(*then) < PERIOD);
                self.0.push(now);
            } else {
                self.0.clear();
            }
            if self.0.len() >= ENOUGH {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is enough after each of these was typed, so many milliseconds after the start.
    fn enough<const N: usize>(typed: [(u64, &[u8]); N]) -> [bool; N] {
        let (start, mut interrupts) = (Instant::now(), Interrupts::default());
        typed.map(|(ms, bytes)| interrupts.are_enough(bytes, start + Duration::from_millis(ms)))
    }

    #[test]
    fn three_within_a_second_are_enough() {
        let typed: [(u64, &[u8]); 3] = [(0, b"\x03"), (500, b"\x03"), (999, b"\x03")];
        assert_eq!(enough(typed), [false, false, true]);
        assert_eq!(enough([(0, b"a\x03\x03\x03b")]), [true]);
    }

    #[test]
    fn three_in_a_longer_time_are_not() {
        let typed: [(u64, &[u8]); 5] = [
            (0, b"\x03"),
            (600, b"\x03"),
            (1000, b"\x03"),
            (1700, b"\x03"),
            (1900, b"\x03"),
        ];
        assert_eq!(enough(typed), [false, false, false, false, true]);
    }

    #[test]
    fn another_key_begins_anew() {
        assert_eq!(enough([(0, b"\x03\x03a\x03\x03")]), [false]);
        assert_eq!(
            enough([(0, b"\x03\x03"), (1, b"a"), (2, b"\x03")]),
            [false; 3]
        );
    }
}
