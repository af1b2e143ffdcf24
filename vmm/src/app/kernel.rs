//! Section `kernel`: what the machine boots.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Bytes of a kernel command line: x86's `COMMAND_LINE_SIZE` less the final NUL.
pub const MAX_CMDLINE_SIZE: usize = 2047;

/// What the machine boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kernel {
    /// The kernel, a vmlinux or bzImage; relative to the folder of this file. By default mvm's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub path: Option<PathBuf>,
    /// Added to the kernel's command line, after what mvm puts there.
    #[serde(default)]
    #[schemars(regex(pattern = "^[ -~]{0,2047}$"))]
    pub cmdline: String,
}
