//! Section `root`: the machine's root file system.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};

use super::as_text;
use super::quote::quoted;
use super::size::{self, KIB};

/// The machine's root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Root {
    /// What it is made of.
    #[serde(default, rename = "type")]
    pub kind: RootKind,
    /// How much it may hold: a size such as "64M", or a part of memory such as "50%".
    #[serde(default)]
    pub size: TmpfsSize,
    /// Name of the volume, one of `volumes`, that keeps what the machine writes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = super::check::SHARED_NAME_PATTERN))]
    pub persist: Option<String>,
    /// Whether nothing can be written to it once the program runs. Shares, volumes and tmpfs in it are
    /// as they say themselves.
    #[serde(default)]
    pub read_only: bool,
}

/// What a root file system is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// The machine's memory: empty at each start.
    #[default]
    Tmpfs,
    /// The folder that `image` names, with all that is mounted in it: what the machine writes is
    /// written there, and its /etc is left as it is.
    Folder,
}

/// How much a file system in memory may grow. In the file: a size, or a part of the machine's
/// memory such as `"50%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TmpfsSize {
    /// So many KiB.
    Kib(u64),
    /// So many hundredths of the machine's memory.
    Percent(u8),
}

impl Default for TmpfsSize {
    fn default() -> Self {
        Self::Percent(50)
    }
}

impl std::str::FromStr for TmpfsSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return match size::parse(text)? {
                0 => Err(format!("must be more than nothing, is {}", quoted(text))),
                bytes if bytes.is_multiple_of(KIB) => Ok(Self::Kib(bytes / KIB)),
                _ => Err(format!(
                    "must be a whole number of KiB, is {}",
                    quoted(text)
                )),
            };
        };
        match percent.parse() {
            Ok(percent @ 1..=100) if !text.starts_with(['0', '+']) => Ok(Self::Percent(percent)),
            _ => Err(format!(
                "must be a size or from \"1%\" to \"100%\" of memory, is {}",
                quoted(text)
            )),
        }
    }
}

impl fmt::Display for TmpfsSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kib(kib) => f.write_str(&size::format_kib(*kib)),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for TmpfsSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TmpfsSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        as_text::read(
            deserializer,
            "a size such as \"64M\" or a part of memory such as \"50%\"",
        )
    }
}

impl JsonSchema for TmpfsSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TmpfsSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": size::PATTERN, "description": "K, M, G and T are binary" },
                { "type": "string", "pattern": "^([1-9][0-9]?|100)%$", "description": "a part of memory" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_memory_is_1_to_100_percent() {
        assert_eq!("100%".parse(), Ok(TmpfsSize::Percent(100)));
        for text in ["0%", "101%", "+5%", "05%", "%", "1.5%", "0K", "0.5K"] {
            assert!(text.parse::<TmpfsSize>().is_err(), "{text}");
        }
    }
}
