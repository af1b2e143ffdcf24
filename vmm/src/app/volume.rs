//! Section `volumes`: disks of the machine's own, which outlive it.

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::as_text;
use super::quote::quoted;
use super::size::{self, KIB, MIB};
use super::{Complaint, Rate, check, schema};

/// Volumes of one machine: each is a device with an interrupt of its own.
pub const MAX_VOLUMES: usize = 8;

/// A disk of the machine's own, which outlives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["name"] }, { "required": ["image"] }]))]
pub struct Volume {
    /// Its name among this user's volumes, which all machines of that user can have, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = check::SHARED_NAME_PATTERN))]
    pub name: Option<String>,
    /// Instead of a name: the file that holds it, or a block device; relative to the folder of this
    /// file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub image: Option<PathBuf>,
    /// Where the machine has it. Only a volume that `root.persist` or `store.writable` names has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mount_point")]
    pub mount_point: Option<PathBuf>,
    /// How much it can hold, such as "10G". It counts when the volume is made; until it is written,
    /// it takes no room.
    #[serde(default)]
    pub size: VolumeSize,
    /// Its file system.
    #[serde(default)]
    pub fs_type: VolumeFileSystem,
    /// Whether the machine can only read it. Several machines can, at one time.
    #[serde(default)]
    pub read_only: bool,
    /// Whether it is made if it is missing.
    #[serde(default = "yes")]
    pub create: bool,
    /// How fast it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rate")]
    pub rate_limit: Option<Rate>,
}

impl Volume {
    /// The volume of that name, with the defaults for all else.
    pub fn named(name: &str, size: VolumeSize) -> Self {
        Self {
            name: Some(name.into()),
            image: None,
            mount_point: None,
            size,
            fs_type: VolumeFileSystem::default(),
            read_only: false,
            create: true,
            rate_limit: None,
        }
    }

    /// What is wrong with it by itself; nothing if it is sound.
    pub fn check(&self) -> Vec<Complaint> {
        check::volume(self)
    }
}

const fn yes() -> bool {
    true
}

/// A volume's file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFileSystem {
    /// ext4.
    #[default]
    Ext4,
}

/// How much a volume can hold: whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeSize {
    mib: u64,
}

impl VolumeSize {
    /// Least, in MiB: below it, ext4 has no room for a journal.
    pub const MIN_MIB: u64 = 8;

    /// Most, in MiB: 15 TiB. An ext4 of the host has files of just under 16.
    pub const MAX_MIB: u64 = 15 << 20;

    /// So many MiB, unchecked; [`super::App::check`] judges.
    pub const fn from_mib(mib: u64) -> Self {
        Self { mib }
    }

    /// In MiB.
    pub const fn mib(self) -> u64 {
        self.mib
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.mib.saturating_mul(MIB)
    }
}

impl Default for VolumeSize {
    fn default() -> Self {
        Self::from_mib(1024)
    }
}

impl std::str::FromStr for VolumeSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match size::parse(text)? {
            bytes if bytes.is_multiple_of(MIB) => Ok(Self::from_mib(bytes / MIB)),
            _ => Err(format!(
                "must be a whole number of MiB, is {}",
                quoted(text)
            )),
        }
    }
}

impl fmt::Display for VolumeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was parsed is below 2^44 MiB.
        f.write_str(&size::format_kib(self.mib.saturating_mul(MIB / KIB)))
    }
}

impl Serialize for VolumeSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VolumeSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        as_text::read(deserializer, "a size such as \"10G\"")
    }
}

impl JsonSchema for VolumeSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VolumeSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": size::PATTERN })
    }
}
