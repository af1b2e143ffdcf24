//! `app.json` as types: the one representation of what a user asks for.
//!
//! The derives say what the file may hold, and the schema comes from them; [`check`](App::check)
//! adds what types cannot say. A device's section is that device's own configuration. An [`App`]
//! may come from elsewhere than a file, or be edited after it was read, and can be checked again;
//! [`AppFile`] is one that came from a file and knows the line of each value.
//!
//! Left out: looking at the host. [`AppFile::check_host`] does that, for `mvm check`.

mod address;
mod as_text;
mod blank;
mod bytes;
pub(crate) mod check;
mod conflict;
mod console;
pub(crate) mod count;
pub(crate) mod document;
mod duration;
pub(crate) mod fault;
pub(crate) mod file;
mod health;
mod host;
mod image;
mod interface;
pub(crate) mod json;
mod kernel;
pub(crate) mod label;
mod limits;
mod memory;
mod names;
mod number_or_text;
mod place;
mod port;
pub(crate) mod problem;
pub(crate) mod program;
pub(crate) mod quote;
mod rate;
pub(crate) mod reader;
mod restart;
mod root;
pub(crate) mod schema;
mod secret;
mod share;
pub(crate) mod short_form;
mod signal;
pub(crate) mod size;
mod store;
pub mod suggest;
pub(crate) mod switch_form;
mod system;
pub(crate) mod text;
pub(crate) mod text_form;
mod tmpfs;
mod ulimit;
mod user;
mod volume;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use address::{Mac, Subnet};
pub use bytes::Bytes;
pub use console::{Console, ConsoleMode, KernelMessages};
pub use duration::Duration;
pub use file::AppFile;
pub use health::{HealthCheck, Http, MAX_CONTAINS, MAX_HTTP_ANSWER, OnFailure, Ready, Tcp};
pub use image::split_image;
pub use interface::{Interface, InterfaceKind, MAX_ALIASES, MAX_INTERFACES};
pub use json::{MAX_DEPTH, MAX_VALUES};
pub use kernel::{Kernel, MAX_CMDLINE_SIZE};
pub use label::{MAX_LABELS, is_label};
pub use limits::{CpuQuota, IoLimits, Limits};
pub use memory::Memory;
pub use names::{Addresses, Dns};
pub use place::{Place, Step};
pub use port::{
    HostEnd, MAX_PORTS, MAX_SOCKET_NAME, MAX_SOCKET_PATH_SIZE, Port, PortRange, Protocol,
};
pub use problem::{Complaint, Problem, Problems};
pub use program::{MAX_ARG_SIZE, MAX_ARGS, MAX_ENV, MAX_GROUPS, Program, Tty};
pub use rate::Rate;
pub use restart::{Policy, Restart};
pub use root::{Root, RootKind, TmpfsSize};
pub use secret::{MAX_SECRET_SIZE, MAX_SECRETS, MAX_SECRETS_SIZE, SECRETS_DIR, Secret};
pub use share::{IMAGE_TAG, MAX_SHARES, MAX_TAG_SIZE, STORE_TAG, Share};
pub use signal::Signal;
pub use store::{Registration, Store, StoreData, StoreMode, WritableStore};
pub use system::{System, SystemKernel};
pub use text::MAX_FILE_SIZE;
pub use tmpfs::{MAX_TMPFS, Tmpfs};
pub use ulimit::{Ulimit, resource_number};
pub use user::{Id, User};
pub use volume::{MAX_VOLUMES, Volume, VolumeFileSystem, VolumeSize};

/// The version of the format that this mvm reads.
pub const VERSION: u32 = 1;

/// vCPUs of one machine; more than any host of today gives to a program with a store of its own.
pub const MAX_VCPUS: u32 = 64;

/// Problems reported of one file; who has more has the wrong file.
pub const MAX_PROBLEMS: usize = 64;

/// What the id of an image begins with.
pub const IMAGE_ID: &str = "sha256:";

/// A program and the machine it runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    /// Version of this format.
    #[serde(default = "version", deserialize_with = "count::version")]
    #[schemars(extend("const" = VERSION))]
    pub version: u32,
    /// The machine's name: lower-case letters, digits and "-".
    #[schemars(regex(pattern = check::NAME_PATTERN))]
    pub name: String,
    /// Name of the machine in itself. By default `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = check::HOSTNAME_PATTERN), length(max = check::MAX_HOSTNAME_SIZE))]
    pub hostname: Option<String>,
    /// Words of the user's own about the machine, by name, which `mvm ps --filter` looks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label::schema")]
    pub labels: BTreeMap<String, String>,
    /// Number of processors.
    #[serde(default = "one", deserialize_with = "count::vcpus")]
    #[schemars(range(min = 1, max = MAX_VCPUS))]
    pub vcpus: u32,
    /// Memory: a size such as "256M", or a number of MiB.
    #[serde(default)]
    pub memory: Memory,
    /// What it boots; a string is the kernel's path.
    #[serde(default, deserialize_with = "short_form::read")]
    #[schemars(schema_with = "schema::kernel")]
    pub kernel: Kernel,
    /// The program; there is one, or a system, or that of an image.
    #[serde(default, skip_serializing_if = "Program::is_absent")]
    pub app: Program,
    /// A `NixOS` system to run instead of a program; a string is its path.
    #[serde(
        default,
        deserialize_with = "short_form::read",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(schema_with = "schema::system")]
    pub system: Option<System>,
    /// A container image that the machine's root is made of: its file or folder, or the id of one that
    /// was read before, "sha256:" and 64 digits. Of several in a file one is chosen behind its path, by
    /// name ("images.tar:shop/web:1") or by number ("images.tar@0").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub image: Option<String>,
    /// A file of `mvm build`, whose kernel and store the machine has; relative to the folder of this
    /// file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::host_path")]
    pub bundle: Option<PathBuf>,
    /// How much of the host's store it sees; a string is the mode.
    #[serde(default, deserialize_with = "short_form::read")]
    #[schemars(schema_with = "schema::store")]
    pub store: Store,
    /// Folders of the host that it sees.
    #[serde(default)]
    #[schemars(length(max = MAX_SHARES))]
    pub shares: Vec<Share>,
    /// Disks of its own, which outlive it.
    #[serde(default)]
    #[schemars(length(max = MAX_VOLUMES))]
    pub volumes: Vec<Volume>,
    /// Folders in its memory, beside those of its root; a string is the mount point.
    #[serde(
        default,
        deserialize_with = "tmpfs::read",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(schema_with = "tmpfs::list")]
    pub tmpfs: Vec<Tmpfs>,
    /// Its network cards. By default one of type "user" where `ports` are given, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Interface>", length(max = MAX_INTERFACES))]
    pub interfaces: Option<Vec<Interface>>,
    /// Ports of the host that lead to its ports; a string such as "8080:80" is host and machine.
    #[serde(default, deserialize_with = "port::read")]
    #[schemars(schema_with = "port::schema")]
    pub ports: Vec<Port>,
    /// Addresses of names that the machine knows without asking: lines of its /etc/hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "names::hosts")]
    pub hosts: BTreeMap<String, Addresses>,
    /// Whom it asks for all other names: its /etc/resolv.conf.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// The machine's root file system.
    #[serde(default)]
    pub root: Root,
    /// Files in the machine's memory that are kept nowhere else, by name.
    #[serde(
        default,
        deserialize_with = "short_form::read_values",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    #[schemars(schema_with = "secret::secrets")]
    pub secrets: BTreeMap<String, Secret>,
    /// How the program is asked whether it does well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HealthCheck")]
    pub healthcheck: Option<HealthCheck>,
    /// When the machine is ready.
    #[serde(default)]
    pub ready: Ready,
    /// Time within which the program must say WATCHDOG=1 at the socket that its variable
    /// `NOTIFY_SOCKET` names, again and again; the machine is ended if it does not. With "ready":
    /// "notify" this begins when it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub watchdog: Option<Duration>,
    /// Whether it is started again when it has ended; a string is the policy.
    #[serde(default, deserialize_with = "short_form::read")]
    #[schemars(schema_with = "schema::restart")]
    pub restart: Restart,
    /// Where the kernel's messages go; a string is the mode.
    #[serde(default, deserialize_with = "short_form::read")]
    #[schemars(schema_with = "schema::console")]
    pub console: Console,
    /// What of the host it may use.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

const fn version() -> u32 {
    VERSION
}

const fn one() -> u32 {
    1
}

impl App {
    /// A machine with the defaults for all but its name and its program.
    pub fn new(name: impl Into<String>, entrypoint: Vec<String>) -> Self {
        Self {
            version: VERSION,
            name: name.into(),
            hostname: None,
            labels: BTreeMap::new(),
            vcpus: 1,
            memory: Memory::default(),
            kernel: Kernel::default(),
            app: Program::new(entrypoint),
            system: None,
            image: None,
            bundle: None,
            store: Store::default(),
            shares: Vec::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            interfaces: None,
            ports: Vec::new(),
            hosts: BTreeMap::new(),
            dns: Dns::default(),
            root: Root::default(),
            secrets: BTreeMap::new(),
            healthcheck: None,
            ready: Ready::default(),
            watchdog: None,
            restart: Restart::default(),
            console: Console::default(),
            limits: Limits::default(),
        }
    }

    /// Reads and checks a file, `-` for the standard input; relative paths in it become absolute.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        AppFile::load(path).map(|file| file.app)
    }

    /// Memory in MiB.
    pub const fn memory_mib(&self) -> u64 {
        self.memory.mib()
    }

    /// Memory in bytes.
    pub const fn memory_bytes(&self) -> u64 {
        self.memory.mib().saturating_mul(size::MIB)
    }

    /// Most bytes that the root file system may hold, rounded down to KiB.
    pub fn root_bytes(&self) -> u64 {
        self.tmpfs_bytes(self.root.size)
    }

    /// Most bytes that a file system of that size in the machine's memory may hold, likewise.
    pub fn tmpfs_bytes(&self, size: TmpfsSize) -> u64 {
        let memory_kib = self.memory_bytes() / size::KIB;
        let kib = match size {
            TmpfsSize::Kib(kib) => kib,
            // Memory below 2^44 MiB, which `check` holds to, cannot overflow.
            TmpfsSize::Percent(percent) => memory_kib.saturating_mul(percent.into()) / 100,
        };
        kib.saturating_mul(size::KIB)
    }

    /// Name of the machine in itself.
    pub fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.name)
    }

    /// Who the program runs as; none if `app.user` is not valid, which [`App::check`] reports.
    pub fn user(&self) -> Option<User> {
        self.app.user().parse().ok()
    }

    /// The tag of each share, in their order.
    pub fn share_tags(&self) -> Vec<String> {
        let default = |nth| format!("share{nth}");
        let tags = self.shares.iter().enumerate();
        tags.map(|(nth, share)| share.tag.clone().unwrap_or_else(|| default(nth)))
            .collect()
    }

    /// How the program is asked whether it does well, if it is.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.healthcheck.as_ref().filter(|check| !check.disable)
    }

    /// Whether the program is to speak for itself, at a socket of its machine.
    pub fn is_heard(&self) -> bool {
        self.ready == Ready::Notify || self.watchdog.is_some()
    }

    /// Whether that socket is no file, since its stage 1 would hide one or nobody can make one.
    pub fn is_heard_by_name(&self) -> bool {
        self.own_kernel().is_some() || self.root.read_only
    }

    /// The volume that `root.persist` names, by its number.
    pub fn root_volume(&self) -> Option<usize> {
        self.volume_called(self.root.persist.as_deref()?)
    }

    fn volume_called(&self, name: &str) -> Option<usize> {
        let is_it = |volume: &Volume| volume.name.as_deref() == Some(name);
        self.volumes.iter().position(is_it)
    }

    /// Its network cards: those of the file, or what the file asks for by its ports.
    pub fn interfaces(&self) -> Vec<Interface> {
        match &self.interfaces {
            Some(interfaces) => interfaces.clone(),
            None if self.ports.iter().all(|port| port.host.ports().is_none()) => Vec::new(),
            None => vec![Interface::default()],
        }
    }

    /// All that is wrong with these values, alone and with each other.
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = check::values(self);
        let conflicts = conflict::between(self).into_iter();
        // A value that is wrong by itself would be named again in the conflicts it causes.
        let is_new =
            |conflict: &Complaint| complaints.iter().all(|one| one.place != conflict.place);
        let conflicts: Vec<Complaint> = conflicts.filter(is_new).collect();
        complaints.extend(conflicts);
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        let mut app = App::new("a", vec!["sh".into()]);
        assert_eq!(app.memory_mib(), 256);
        assert_eq!(app.root_bytes(), 128 << 20);
        app.memory = Memory::from_mib(33);
        app.root.size = TmpfsSize::Percent(1);
        assert_eq!(app.root_bytes(), 337 << 10);
    }

    #[test]
    fn the_hostname_is_the_name_unless_given() {
        let mut app = App::new("a", vec!["sh".into()]);
        assert_eq!(app.hostname(), "a");
        app.hostname = Some("b.example".into());
        assert_eq!(app.hostname(), "b.example");
    }
}
