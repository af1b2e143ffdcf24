//! Section `memory`: how much the machine has.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::number_or_text::{self, NumberOrText};
use super::quote::quoted;
use super::size::{self, KIB, MIB};

/// The machine's memory. In the file: a size, or a bare number of MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    mib: u64,
}

impl Memory {
    /// Least memory a machine can have, in MiB: the kernel, its init and 10 MiB for the program.
    pub const MIN_MIB: u64 = 32;

    /// Most, in MiB: 1 TiB, which 40 bits of guest-physical address reach on every host.
    pub const MAX_MIB: u64 = 1 << 20;

    /// So many MiB, unchecked; [`super::App::check`] judges.
    pub const fn from_mib(mib: u64) -> Self {
        Self { mib }
    }

    /// In MiB.
    pub const fn mib(self) -> u64 {
        self.mib
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::from_mib(256)
    }
}

impl std::str::FromStr for Memory {
    type Err = String;

    /// A size with its unit, of whole MiB; a bare number is one of MiB.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(mib) = text.parse() {
            return Ok(Self::from_mib(mib));
        }
        match size::parse(text)? {
            bytes if bytes.is_multiple_of(MIB) => Ok(Self::from_mib(bytes / MIB)),
            _ => Err(format!(
                "must be a whole number of MiB, is {}",
                quoted(text)
            )),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mib.checked_mul(MIB / KIB) {
            Some(kib) if kib > 0 => f.write_str(&size::format_kib(kib)),
            _ => write!(f, "{}M", self.mib),
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.mib)
    }
}

impl NumberOrText for Memory {
    const ALLOWED: &str = "a size such as \"256M\" or a whole number of MiB";

    fn from_number(mib: u64) -> Option<Self> {
        Some(Self::from_mib(mib))
    }

    /// "256" could mean bytes to its writer: a number in quotes needs its unit.
    fn allows(text: &str) -> bool {
        text.parse::<u64>().is_err()
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text::read(deserializer)
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": Self::MIN_MIB, "maximum": Self::MAX_MIB, "description": "MiB" },
                { "type": "string", "pattern": size::PATTERN, "description": "K, M, G and T are binary" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_whole_mib() {
        assert_eq!("1.5G".parse(), Ok(Memory::from_mib(1536)));
        assert_eq!("64".parse(), Ok(Memory::from_mib(64)));
        assert!("100K".parse::<Memory>().is_err());
        assert_eq!(Memory::from_mib(1536).to_string(), "1536M");
    }
}
