//! Section `console`: where the kernel's messages go. The program's own output is never there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Where the kernel's messages go, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = { "properties": { "mode": { "const": "file" } }, "required": ["mode"] },
    "then" = { "required": ["path"] },
    "else" = { "properties": { "path": false } },
))]
pub struct Console {
    /// Where they go.
    #[serde(default)]
    pub mode: ConsoleMode,
    /// The file of mode "file", to which a start adds at most 16 MiB; relative to the folder of
    /// this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub path: Option<PathBuf>,
    /// How much the kernel says.
    #[serde(default)]
    pub kernel: KernelMessages,
}

/// Where the kernel's messages go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleMode {
    /// Nowhere: a program's output is its own alone.
    #[default]
    None,
    /// To mvm's standard error output, so that a pipe still gets only the program's output.
    Stdio,
    /// To the file that `path` names.
    File,
}

/// How much the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KernelMessages {
    /// Only what stops the machine, such as a panic.
    Quiet,
    /// Errors and worse: nothing in a healthy start, the cause in another.
    #[default]
    Errors,
    /// All messages.
    Verbose,
}

impl KernelMessages {
    /// The kernel's `loglevel=`: messages below this number are shown (`KERN_ERR` is 3).
    pub const fn loglevel(self) -> u8 {
        match self {
            Self::Quiet => 1,
            Self::Errors => 4,
            Self::Verbose => 8,
        }
    }
}
