//! Durations as people write them: `"500ms"`, `"1.5m"`; a bare number is one of seconds.

use std::fmt;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::number_or_text::{self, NumberOrText};
use super::quote::quoted;

/// A duration as a regular expression, for the schema.
const PATTERN: &str = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h)$";

/// Digits before the point, and after it: together with the largest unit below 2^64 ms.
const MAX_WHOLE: usize = 9;
const MAX_FRACTION: usize = 3;

/// In the order in which their ends are tried, with their milliseconds.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// A duration in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    ms: u64,
}

impl Duration {
    /// So many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self {
            ms: seconds as u64 * 1000,
        }
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.ms)
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be a duration such as \"500ms\", \"30s\" or \"1.5m\", is {}",
                quoted(text)
            )
        };
        let unit = UNITS
            .iter()
            .find_map(|(name, ms)| Some((text.strip_suffix(name)?, *ms)));
        let (digits, unit_ms) = unit.ok_or_else(wrong)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_plain = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_plain(whole, MAX_WHOLE) || !is_plain(fraction, MAX_FRACTION) {
            return Err(wrong());
        }
        // At most 12 digits times an hour is below 2^64.
        let scale = 10u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let number: u64 = [whole, fraction].concat().parse().map_err(|_| wrong())?;
        let scaled = number * unit_ms;
        if !scaled.is_multiple_of(scale) {
            return Err(format!(
                "must be a whole number of milliseconds, is {}",
                quoted(text)
            ));
        }
        Ok(Self { ms: scaled / scale })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| {
            self.ms.is_multiple_of(*unit) && self.ms / unit < 10u64.pow(9)
        };
        let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", self.ms / unit)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl NumberOrText for Duration {
    const ALLOWED: &str = "a duration such as \"30s\" or a whole number of seconds";

    fn from_number(seconds: u64) -> Option<Self> {
        Some(Self::from_ms(seconds.saturating_mul(1000)))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text::read(deserializer)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "description": "seconds" },
                { "type": "string", "pattern": PATTERN },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("0.001s", 1),
            ("2m", 120_000),
            ("999999999.999h", 3_599_999_999_996_400),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_ms(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, part) in [
            ("", "such as"),
            ("s", "such as"),
            ("5", "such as"),
            ("-1s", "such as"),
            ("1.s", "such as"),
            ("1d", "such as"),
            ("1000000000s", "such as"),
            ("0.5ms", "whole number of milliseconds"),
        ] {
            let error = text.parse::<Duration>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_written_duration_reads_back_the_same() {
        for ms in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000] {
            let duration = Duration::from_ms(ms);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        assert_eq!(Duration::from_secs(90).to_string(), "90s");
    }
}
