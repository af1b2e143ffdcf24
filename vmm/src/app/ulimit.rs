//! Section `app.ulimits`: limits of each process of the program's, which the guest's kernel keeps.
//!
//! setrlimit(2). What of the host the machine may use is [`super::Limits`].

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::number_or_text::{self, NumberOrText};
use super::quote::quoted;

/// What can be limited, each at Linux' number of it (`asm-generic/resource.h`).
pub(super) const RESOURCES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// Most open files of a process that a kernel takes unless told otherwise (its `fs.nr_open`).
pub(super) const MAX_NOFILE: u64 = 1024 * 1024;

/// Largest limit that is a number; more than a kernel counts to.
const MAX: u64 = i64::MAX as u64;

/// No limit, as the kernel has it (`RLIM64_INFINITY`).
const UNLIMITED: u64 = u64::MAX;

/// The word for that.
const WORD: &str = "unlimited";

/// Linux' number of a resource.
pub fn resource_number(name: &str) -> Option<u32> {
    (0..)
        .zip(RESOURCES)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| number)
}

/// A limit of a process. In the file: a number, "unlimited", or two of these with ":" between, of which
/// the second is what the process may raise the first to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds; the largest number is no limit.
    pub soft: u64,
    /// What the process may set it to.
    pub hard: u64,
}

fn value(text: &str) -> Option<u64> {
    if text == WORD {
        return Some(UNLIMITED);
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok())?;
    number.filter(|number| *number <= MAX)
}

impl std::str::FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        match (value(soft), value(hard)) {
            (Some(soft), Some(hard)) if soft <= hard => Ok(Self { soft, hard }),
            (Some(_), Some(_)) => Err(format!(
                "must have the lower limit before the \":\", is {}",
                quoted(text)
            )),
            _ => Err(format!("must be {}, is {}", Self::ALLOWED, quoted(text))),
        }
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value| match value {
            UNLIMITED => WORD.to_owned(),
            number => number.to_string(),
        };
        f.write_str(&word(self.soft))?;
        if self.hard == self.soft {
            return Ok(());
        }
        write!(f, ":{}", word(self.hard))
    }
}

impl Serialize for Ulimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl NumberOrText for Ulimit {
    const ALLOWED: &str = "a number, \"unlimited\", or two of them such as \"1024:2048\"";

    fn from_number(number: u64) -> Option<Self> {
        let (soft, hard) = (number, number);
        (number <= MAX).then_some(Self { soft, hard })
    }
}

impl<'de> Deserialize<'de> for Ulimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text::read(deserializer)
    }
}

impl JsonSchema for Ulimit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ulimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": MAX },
                { "type": "string", "pattern": "^([0-9]{1,19}|unlimited)(:([0-9]{1,19}|unlimited))?$" },
            ],
        })
    }
}

pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "enum": RESOURCES },
        "additionalProperties": generator.subschema_for::<Ulimit>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_number_or_two() {
        let limit = |text| serde_json::from_str::<Ulimit>(text);
        for (text, soft, hard, shown) in [
            ("1024", 1024, 1024, "1024"),
            ("\"0\"", 0, 0, "0"),
            ("\"7:7\"", 7, 7, "7"),
            ("\"1024:2048\"", 1024, 2048, "1024:2048"),
            ("\"unlimited\"", u64::MAX, u64::MAX, "unlimited"),
            ("\"5:unlimited\"", 5, u64::MAX, "5:unlimited"),
        ] {
            let found = limit(text).unwrap();
            assert_eq!(found, Ulimit { soft, hard }, "{text}");
            assert_eq!(found.to_string(), shown);
            assert_eq!(shown.parse(), Ok(found));
        }
        for text in [
            "-1",
            "1.5",
            "\"\"",
            "\":\"",
            "\"1:\"",
            "\"2:1\"",
            "\"unlimited:1\"",
            "\"1:2:3\"",
            "\"+1\"",
            "\"1K\"",
            "9223372036854775808",
            "18446744073709551615",
        ] {
            assert!(limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_resource_has_the_kernels_number() {
        assert_eq!(resource_number("cpu"), Some(0));
        assert_eq!(resource_number("nofile"), Some(7));
        assert_eq!(resource_number("rttime"), Some(15));
        assert_eq!(resource_number("NOFILE"), None);
    }
}
