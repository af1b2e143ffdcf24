//! Sections `healthcheck` and `ready`: how the program is asked whether it does well, or says so.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Duration, count, schema};

/// Bytes of an answer to [`Http`] in which `contains` is looked for, from its first.
pub const MAX_HTTP_ANSWER: usize = 64 * 1024;

/// Bytes of a text that an answer is to contain.
pub const MAX_CONTAINS: usize = 4096;

/// How the program is asked, from inside the machine, whether it does well. One of exec, http, tcp,
/// unix and disable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["exec"] }, { "required": ["http"] },
    { "required": ["tcp"] }, { "required": ["unix"] },
    { "required": ["disable"], "properties": { "disable": { "const": true } } },
]))]
pub struct HealthCheck {
    /// A program and its arguments, run as the machine's program is; it exits with 0 if all is
    /// well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "command")]
    pub exec: Option<Vec<String>>,
    /// A request to a port of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Http")]
    pub http: Option<Http>,
    /// A connection to a port of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tcp")]
    pub tcp: Option<Tcp>,
    /// A connection to a socket of the machine: its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::guest_path")]
    pub unix: Option<String>,
    /// Whether it is not asked at all: neither as the machine's image says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable: bool,
    /// Time between the end of a check and the next; the first comes after as long.
    #[serde(default = "thirty_seconds")]
    pub interval: Duration,
    /// Time that a check may take before it has failed.
    #[serde(default = "thirty_seconds")]
    pub timeout: Duration,
    /// Checks that must fail one after another for the program to be unhealthy.
    #[serde(default = "three", deserialize_with = "count::retries")]
    #[schemars(range(min = 1, max = u32::MAX - 1))]
    pub retries: u32,
    /// Time after the start in which failures do not count, until one check has succeeded. Checks
    /// come once a second meanwhile, or more often if the interval says so.
    #[serde(default = "nothing")]
    pub start_period: Duration,
    /// What happens when the program is unhealthy.
    #[serde(default)]
    pub on_failure: OnFailure,
}

impl HealthCheck {
    /// That a command succeeds, with the defaults for all else.
    pub const fn of_command(command: Vec<String>) -> Self {
        Self {
            exec: Some(command),
            http: None,
            tcp: None,
            unix: None,
            disable: false,
            interval: thirty_seconds(),
            timeout: thirty_seconds(),
            retries: three(),
            start_period: nothing(),
            on_failure: OnFailure::None,
        }
    }
}

/// A request to a port of the machine, as a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// The port, on the machine's loopback interface.
    #[serde(deserialize_with = "count::port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What is asked for.
    #[serde(default = "slash")]
    #[schemars(regex(pattern = "^/[!-~]*$"))]
    pub path: String,
    /// The status that the answer must have. By default any from 200 to 399.
    #[serde(
        default,
        deserialize_with = "count::http_status",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "u16", range(min = 100, max = 599))]
    pub status: Option<u16>,
    /// Text that the first 64 KiB of the answer must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "contained")]
    pub contains: Option<String>,
}

/// A connection to a port of the machine, as a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// The port, on the machine's loopback interface.
    #[serde(deserialize_with = "count::port")]
    #[schemars(range(min = 1))]
    pub port: u16,
}

/// What happens when a program is unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is told, and nothing else.
    #[default]
    None,
    /// The machine is ended, and its restart policy takes that for a failure.
    Restart,
    /// The machine is ended, and not started again.
    Stop,
}

/// When a machine is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// When its program runs.
    Started,
    /// When its first check has succeeded; without a healthcheck, when its program runs.
    #[default]
    Healthy,
    /// When its program says READY=1 at the socket that its variable `NOTIFY_SOCKET` names, as a
    /// service of systemd's does (`sd_notify(3)`).
    Notify,
}

const fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

const fn nothing() -> Duration {
    Duration::from_ms(0)
}

const fn three() -> u32 {
    3
}

fn slash() -> String {
    "/".into()
}

pub(super) fn command(_: &mut SchemaGenerator) -> Schema {
    let mut first = schema::argument();
    first.insert("minLength".into(), 1.into());
    json_schema!({
        "type": "array", "prefixItems": [first], "items": schema::argument(),
        "minItems": 1, "maxItems": super::MAX_ARGS,
    })
}

fn contained(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_CONTAINS, "pattern": r"^[^\u0000]*$" })
}
