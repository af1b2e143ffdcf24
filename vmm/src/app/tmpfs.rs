//! Section `tmpfs`: folders that are in the machine's memory.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::short_form::{self, Short};
use super::{TmpfsSize, schema};

/// Such folders of one machine; more than any program writes to.
pub const MAX_TMPFS: usize = 64;

/// A folder in the machine's memory, empty at each start, or as the image has it. All may write to one
/// that the image has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tmpfs {
    /// Where it is.
    #[schemars(schema_with = "schema::mount_point")]
    pub mount_point: PathBuf,
    /// How much it may hold: a size such as "64M", or a part of memory such as "50%".
    #[serde(default)]
    pub size: TmpfsSize,
}

/// Reads a list of folders, each an object or its place alone.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Tmpfs>, D::Error> {
    let list = Vec::<Short<Tmpfs>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|Short(tmpfs)| tmpfs).collect())
}

pub(super) fn list(generator: &mut SchemaGenerator) -> Schema {
    let place = schema::mount_point(generator);
    let item = short_form::schema::<Tmpfs>(generator, &place);
    json_schema!({ "type": "array", "items": item, "maxItems": MAX_TMPFS })
}
