//! A number of bytes in app.json: a size with its unit, such as `"512M"`.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::as_text;
use super::quote::quoted;
use super::size::{self, KIB};

/// Bytes, a whole number of KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes {
    kib: u64,
}

impl Bytes {
    /// At least `bytes`.
    pub const fn at_least(bytes: u64) -> Self {
        Self {
            kib: bytes.div_ceil(KIB),
        }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.kib.saturating_mul(KIB)
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match size::parse(text)? {
            bytes if bytes.is_multiple_of(KIB) => Ok(Self { kib: bytes / KIB }),
            _ => Err(format!(
                "must be a whole number of KiB, is {}",
                quoted(text)
            )),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&size::format_kib(self.kib))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        as_text::read(deserializer, "a size such as \"512M\"")
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": size::PATTERN, "description": "K, M, G and T are binary" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_whole_kib_and_read_back() {
        let bytes: Bytes = "1.5G".parse().unwrap();
        assert_eq!((bytes.get(), bytes.to_string()), (3 << 29, "1536M".into()));
        assert!("0.5K".parse::<Bytes>().is_err());
        assert_eq!(Bytes::at_least(1025).get(), 2048);
    }
}
