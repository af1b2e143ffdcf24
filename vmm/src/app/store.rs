//! Section `store`: how much of the host's store the machine sees.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, SystemKernel, TmpfsSize, check, schema, switch_form};

/// How much of the host's /nix/store the machine sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = { "properties": { "mode": { "enum": ["all", "none"] } }, "required": ["mode"] },
    "then" = { "properties": { "closure": false, "registerClosure": { "const": false }, "data": { "not": { "const": "image" } } } },
    "allOf" = [{
        "if": { "properties": { "mode": { "const": "none" } }, "required": ["mode"] },
        "then": { "properties": { "data": { "const": "plain" } } },
    }],
))]
pub struct Store {
    /// Which store paths it sees.
    #[serde(default)]
    pub mode: StoreMode,
    /// A file with one store path a line, or a folder that `closureInfo` has made, for a host without
    /// Nix; relative to the folder of this file. By default the Nix database is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub closure: Option<PathBuf>,
    /// Whether the machine can add to its store; the host's is never written to. `true` keeps what is
    /// added in memory, up to half of the machine's.
    #[serde(
        default,
        deserialize_with = "switch_form::read",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "switch_form::schema::<WritableStore>")]
    pub writable: Option<WritableStore>,
    /// Whether the store paths that it sees are valid in the Nix database that it finds at
    /// /nix/var/nix/db. It needs a nix-store in its closure, a store that it can write to, and a Nix
    /// on the host that knows the paths, or a `closure` that `closureInfo` has made. By default a
    /// system with such a store and Nix has it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub register_closure: Option<bool>,
    /// How the bytes of its files come to the machine.
    #[serde(default, skip_serializing_if = "StoreData::is_default")]
    pub data: StoreData,
}

/// Where what a machine adds to its store goes, and with it /nix/var.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("not" = { "required": ["size", "volume"] }))]
pub struct WritableStore {
    /// How much memory it may take: a size such as "1G", or a part of memory such as "50%", which is
    /// the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TmpfsSize")]
    pub size: Option<TmpfsSize>,
    /// Instead of memory: name of the volume, one of `volumes`, that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = check::SHARED_NAME_PATTERN))]
    pub volume: Option<String>,
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

/// How the bytes of the store's files come to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreData {
    /// The machine asks for them, and keeps in its own memory what it has read.
    #[default]
    Plain,
    /// It asks for those of small files. Large ones are its memory, read-only, for as long as it reads
    /// them: nothing is copied, and the host has each page once for all machines. Takes a 32nd of the
    /// machine's memory. A kernel that cannot has it plain, and mvm says so.
    Dax,
    /// The files are its memory, read-only, in an EROFS that is made of their names: nothing is asked
    /// for or copied, and the host has each page once for all machines. Its closure must not grow,
    /// and takes a 64th of its size of the machine's memory; where that is more than a quarter of it,
    /// or the host cannot, the machine has it plain, and says so.
    Image,
    /// One of these, by what earlier starts of the same closure have cost: the first are plain and
    /// measured. `mvm inspect` says which, and why.
    Auto,
}

impl StoreData {
    /// Whether it is what a file that does not say gets.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Its word in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Dax => "dax",
            Self::Image => "image",
            Self::Auto => "auto",
        }
    }
}

/// Whether the paths of a machine's closure are to be valid in its own Nix database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// They need not be.
    No,
    /// They are, if the closure has a Nix.
    IfThereIsNix,
    /// They are.
    Yes,
}

impl App {
    /// Whether the paths of its closure are to be valid in its own Nix database.
    pub fn registration(&self) -> Registration {
        match (self.store.register_closure, &self.store.writable) {
            (Some(true), _) => Registration::Yes,
            (None, Some(_)) if self.store.mode == StoreMode::Closure => match &self.system {
                Some(system) if system.kernel == SystemKernel::Mvm => Registration::IfThereIsNix,
                _ => Registration::No,
            },
            _ => Registration::No,
        }
    }

    /// The volume that `store.writable` names, by its number.
    pub fn store_volume(&self) -> Option<usize> {
        self.volume_called(self.store.writable.as_ref()?.volume.as_deref()?)
    }

    /// Most bytes of memory that the machine's additions to its store may take, rounded down to KiB.
    pub fn store_bytes(&self) -> u64 {
        let size = self.store.writable.as_ref().and_then(|store| store.size);
        self.tmpfs_bytes(size.unwrap_or_default())
    }
}
