//! Section `shares`: folders and files of the host that the machine sees.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Shares of one machine: each is a device with an interrupt of its own.
pub const MAX_SHARES: usize = 16;

/// Bytes of a tag (virtio 1.2 §5.11.4, `tag`).
pub const MAX_TAG_SIZE: usize = 36;

/// The tag of the share that holds the store.
pub const STORE_TAG: &str = "store";

/// The tag of the image that the root is made of.
pub const IMAGE_TAG: &str = "image";

/// A folder of the host that the machine sees, or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    /// The folder on the host, or a single file, which can only be read; relative to the folder of this
    /// file.
    #[schemars(schema_with = "schema::host_path")]
    pub source: PathBuf,
    /// Where the machine has it.
    #[schemars(schema_with = "schema::mount_point")]
    pub mount_point: PathBuf,
    /// Whether the machine can only read it. Files that it makes belong to the user who runs mvm,
    /// carry no set-uid bits, and leave 5 % of the disk or 1 GiB free.
    #[serde(default = "yes")]
    pub read_only: bool,
    /// The device's name in the machine: up to 36 printable ASCII characters. By default "share"
    /// and the share's number, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = "^(?!store$)[!-~]{1,36}$"))]
    pub tag: Option<String>,
}

impl Share {
    /// The name of the file that it is now, if it is a single one.
    pub fn file_name(&self) -> Option<&OsStr> {
        let name = self.source.file_name();
        name.filter(|_| self.source.is_file())
    }

    /// # Errors
    /// It is a single file that is to be written to.
    pub fn ensure_can_be(&self) -> anyhow::Result<()> {
        ensure!(
            self.read_only || self.file_name().is_none(),
            "{} is a file, which can only be read: \"readOnly\": true; a folder can be written to",
            self.source.display()
        );
        Ok(())
    }
}

const fn yes() -> bool {
    true
}
