//! Numbers that count, each with its own word on what it may be.
//!
//! A number that is whole but too large for its type becomes the largest, and is refused with the
//! others that are out of range by [`super::App::check`]: the types alone would name their own.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserializer, Unexpected, Visitor};

use super::{MAX_VCPUS, VERSION};

/// The value of `vcpus`.
pub fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Count(format_args!("a whole number from 1 to {MAX_VCPUS}")))
}

/// The value of `version`.
pub fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Count(format_args!("{VERSION}")))
}

/// A number of which `allowed` says what it may be.
pub fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    allowed: fmt::Arguments<'_>,
) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Count(allowed))
}

/// The value of `healthcheck.retries`.
pub fn retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    deserializer.deserialize_any(Count(format_args!("a whole number from 1")))
}

/// The value of `restart.maxRetries`.
pub fn max_retries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let count = deserializer.deserialize_any(Count(format_args!("a whole number")))?;
    Ok(Some(count))
}

/// A port of TCP.
pub fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    deserializer.deserialize_any(Within("a port", 1..=u16::MAX))
}

/// A status of HTTP (RFC 9110 §15).
pub fn http_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    deserializer
        .deserialize_any(Within("a status", 100..=599))
        .map(Some)
}

/// A number of which the limits are another specification's.
struct Within(&'static str, RangeInclusive<u16>);

impl Visitor<'_> for Within {
    type Value = u16;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.0, self.1.start(), self.1.end())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u16, E> {
        let within = u16::try_from(number)
            .ok()
            .filter(|number| self.1.contains(number));
        within.ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

struct Count<'a>(fmt::Arguments<'a>);

impl Visitor<'_> for Count<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(self.0)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u32, E> {
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }
}
