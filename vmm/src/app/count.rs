//! Numbers that count, each with its own word on what it may be.
//!
//! A number that is whole but too large for its type becomes the largest, and is refused with the
//! others that are out of range by [`super::App::check`]: the types alone would name their own.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};

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
