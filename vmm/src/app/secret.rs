//! Section `secrets`: files in the machine's memory whose content is in no file of mvm's.
//!
//! The one thing to know: this says where a value comes from, and never holds one, so an [`App`]
//! can be shown and kept.
//!
//! [`App`]: super::App

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{User, health, schema};

/// Secrets of one machine; more than any program has.
pub const MAX_SECRETS: usize = 64;

/// Bytes of one secret: that of a container's.
pub const MAX_SECRET_SIZE: usize = 500 * 1024;

/// Bytes of all secrets of a machine. As JSON numbers they are four times as many, which still fits
/// the guest's setup beside its mounts.
pub const MAX_SECRETS_SIZE: usize = 1024 * 1024;

/// Where secrets are that have no path of their own.
pub const SECRETS_DIR: &str = "/run/secrets";

/// A name of a secret: it is a file's name.
pub const SECRET_NAME_PATTERN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";

/// A file in the machine's memory, with a value that comes from one of source, env, command and
/// loadCredential. A string is the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["source"] }, { "required": ["env"] }, { "required": ["command"] },
    { "required": ["loadCredential"] },
]))]
pub struct Secret {
    /// A file on the host; relative to the folder of this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub source: Option<PathBuf>,
    /// A variable of the environment of the command that starts the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = r"^[^=\u0000]+$"))]
    pub env: Option<String>,
    /// A program of the host and its arguments; its output is the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "health::command")]
    pub command: Option<Vec<String>>,
    /// A credential that systemd gives to the service that the machine is: the ID of its
    /// `LoadCredential=` or `SetCredential=` (`systemd.exec(5)`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = SECRET_NAME_PATTERN))]
    pub load_credential: Option<String>,
    /// Where the machine has it, as a link to the file. By default /run/secrets and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mount_point")]
    pub path: Option<String>,
    /// Who may do what with it, in octal.
    #[serde(default = "owner_reads")]
    #[schemars(regex(pattern = "^0?[0-7]{3}$"))]
    pub mode: String,
    /// Whose it is: a name or a uid, or either with `:group`. By default the program's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = User::PATTERN))]
    pub owner: Option<String>,
}

impl Secret {
    /// The mode's bits; none if it is not valid, which [`App::check`](super::App::check) reports.
    pub fn mode_bits(&self) -> Option<u32> {
        let digits = self.mode.strip_prefix('0').filter(|rest| rest.len() == 3);
        let digits = digits.unwrap_or(&self.mode);
        let is_octal =
            digits.len() == 3 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        is_octal.then(|| u32::from_str_radix(digits, 8).ok())?
    }
}

fn owner_reads() -> String {
    "0400".into()
}

/// Whether a secret may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(is_first)
        && name
            .bytes()
            .all(|byte| is_first(byte) || matches!(byte, b'.' | b'-'))
}

pub(super) fn secrets(generator: &mut SchemaGenerator) -> Schema {
    let source = schema::host_path(generator);
    let whole = generator.subschema_for::<Secret>();
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": SECRET_NAME_PATTERN },
        "additionalProperties": { "anyOf": [source, whole] },
        "maxProperties": MAX_SECRETS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_three_octal_digits() {
        let bits = |mode: &str| {
            let mode = mode.into();
            Secret {
                mode,
                ..Secret::default()
            }
            .mode_bits()
        };
        assert_eq!(bits("0400"), Some(0o400));
        assert_eq!(bits("640"), Some(0o640));
        for mode in ["", "0", "4755", "0408", "04000", "+40"] {
            assert_eq!(bits(mode), None, "{mode}");
        }
    }

    #[test]
    fn a_name_is_a_file_name() {
        for name in ["a", "db.password", "_x-1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "-a", "a/b", "a b", "é"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
