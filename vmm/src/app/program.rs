//! Section `app`: the program that the machine runs.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use super::{Duration, Id, Signal, Ulimit, User, schema, ulimit};

/// Items of `entrypoint` and `args` together; far more than anyone writes by hand.
pub const MAX_ARGS: usize = 4096;

/// Environment variables.
pub const MAX_ENV: usize = 4096;

/// Bytes of one argument or one `NAME=value`, with its NUL (the kernel's `MAX_ARG_STRLEN`).
pub const MAX_ARG_SIZE: usize = 128 * 1024;

/// Groups besides those of the user (the kernel's `NGROUPS_MAX` is 65536; nobody lists so many).
pub const MAX_GROUPS: usize = 256;

/// The program that the machine runs. When it ends, the machine ends. What is not said here is as the
/// machine's image says, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// The program, as a string, or as a list with its first arguments. A name without a slash is
    /// searched for in PATH.
    #[serde(
        default,
        deserialize_with = "one_or_more",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "one_or_more_schema")]
    pub entrypoint: Vec<String>,
    /// Arguments, after those of the entrypoint.
    #[serde(default)]
    #[schemars(schema_with = "args_schema")]
    pub args: Vec<String>,
    /// Environment variables by name; null takes a variable away that would be set otherwise.
    #[serde(default)]
    #[schemars(schema_with = "env_schema")]
    pub env: BTreeMap<String, Option<String>>,
    /// Folder in the machine that the program starts in; by default "/".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::guest_path")]
    pub cwd: Option<String>,
    /// Who it runs as: a name or a uid, or either with `:group`; by default root. A name is looked up
    /// in the machine's image; in a machine without one it is a user of that name, made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = User::PATTERN))]
    pub user: Option<String>,
    /// Groups that it has besides those of its user: names of the machine's /etc/group, or gids. What
    /// `mvm exec` runs has them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "groups_schema")]
    pub groups: Vec<String>,
    /// Limits of each of its processes by their names in `setrlimit(2)`, in lower case, such as
    /// "nofile": a number, "unlimited", or "SOFT:HARD".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "ulimit::schema")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Whether it gets a terminal: true, false, or "auto", which is to have one if mvm has one.
    #[serde(default)]
    pub tty: Tty,
    /// Whether its input stays open while the machine is in the background, for who attaches to it. In
    /// the foreground it has that of mvm.
    #[serde(default)]
    pub stdin: bool,
    /// What it is asked to end with: a name such as "SIGINT", or a number in quotes; by default
    /// "SIGTERM".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Signal")]
    pub stop_signal: Option<Signal>,
    /// How long it may take to end then, before `mvm stop` switches the machine off; by default 10
    /// seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub stop_timeout: Option<Duration>,
}

impl Program {
    /// This program with the defaults for all else.
    pub fn new(entrypoint: Vec<String>) -> Self {
        Self {
            entrypoint,
            ..Self::default()
        }
    }

    /// Whether it is that of a file without one.
    pub fn is_absent(&self) -> bool {
        *self == Self::default()
    }

    /// The whole command line: `entrypoint`, then `args`.
    pub fn argv(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().chain(&self.args).map(String::as_str)
    }

    /// The folder that it starts in.
    pub fn cwd(&self) -> &str {
        self.cwd.as_deref().unwrap_or("/")
    }

    /// Who it runs as.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("root")
    }

    /// What it is asked to end with.
    pub fn stop_signal(&self) -> Signal {
        self.stop_signal.unwrap_or(Signal::TERM)
    }

    /// How long it may take to end then.
    pub fn stop_timeout(&self) -> Duration {
        // Docker's.
        self.stop_timeout.unwrap_or(Duration::from_secs(10))
    }
}

/// Whether the program gets a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tty {
    /// If mvm's own input and output are one.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: input, output and errors are three pipes.
    Never,
}

impl Serialize for Tty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Tty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TtyVisitor;

        impl Visitor<'_> for TtyVisitor {
            type Value = Tty;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"auto\"")
            }

            fn visit_bool<E: de::Error>(self, has_one: bool) -> Result<Tty, E> {
                Ok(if has_one { Tty::Always } else { Tty::Never })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tty, E> {
                match text {
                    "auto" => Ok(Tty::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(TtyVisitor)
    }
}

impl JsonSchema for Tty {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tty".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [true, false, "auto"] })
    }
}

/// Reads a string as a list of that one string.
pub fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.into()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

fn one_or_more_schema(_: &mut SchemaGenerator) -> Schema {
    let mut first = schema::argument();
    first.insert("minLength".into(), 1.into());
    json_schema!({
        "anyOf": [
            first,
            { "type": "array", "prefixItems": [first], "items": schema::argument(), "minItems": 1, "maxItems": MAX_ARGS },
        ],
    })
}

fn args_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": schema::argument(), "maxItems": MAX_ARGS })
}

fn groups_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": Id::PATTERN },
        "maxItems": MAX_GROUPS,
    })
}

fn env_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": r"^[^=\u0000]+$" },
        "additionalProperties": { "anyOf": [schema::argument(), { "type": "null" }] },
        "maxProperties": MAX_ENV,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_the_entrypoint_and_then_the_arguments() {
        let mut program = Program::new(vec!["sh".into(), "-c".into()]);
        program.args.push("true".into());
        assert_eq!(program.argv().collect::<Vec<_>>(), ["sh", "-c", "true"]);
    }
}
