//! Section `store`: how much of the host's store the machine sees.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How much of the host's /nix/store the machine sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = { "properties": { "mode": { "enum": ["all", "none"] } }, "required": ["mode"] },
    "then" = { "properties": { "closure": false } },
))]
pub struct Store {
    /// Which store paths it sees.
    #[serde(default)]
    pub mode: StoreMode,
    /// A file with one store path a line, for a host without Nix; relative to the folder of this
    /// file. By default the Nix database is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub closure: Option<PathBuf>,
}

/// Which store paths the machine sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreMode {
    /// Those that this file names, and all that they refer to.
    #[default]
    Closure,
    /// All.
    All,
    /// None: there is no store in the machine.
    None,
}
