//! A secret on its way into the guest.
//!
//! The one thing to know: its value is in no debug output, however it is come by.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ByteString;

/// A file of the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Its name in `/run/secrets`.
    pub name: String,
    /// Absolute path of a link to it; `None` for none.
    pub link: Option<String>,
    /// Whose it is: `name`, `uid`, `name:group` or `uid:gid`.
    pub owner: String,
    /// Its mode's permission bits.
    pub mode: u32,
    /// What it holds.
    pub value: SecretValue,
}

/// Bytes that nobody else is to see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(ByteString);

impl SecretValue {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.bytes().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_shown() {
        let secret = SecretFile {
            name: "key".into(),
            link: None,
            owner: "root".into(),
            mode: 0o400,
            value: SecretValue::from(b"hunter2".to_vec()),
        };
        let shown = format!("{secret:?}");
        assert!(
            shown.contains("7 bytes") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
