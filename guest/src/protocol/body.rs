//! The bodies that are JSON: what a machine is made of, and what an execution is.
//!
//! The one thing to know: they only travel from the host to the guest, which trusts them; unknown
//! keys are errors all the same, since both sides are built together.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ByteString, SecretFile};

/// What the guest prepares before its first execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The machine's name (`sethostname`); `None` keeps the kernel's.
    pub hostname: Option<String>,
    /// What time it is, in nanoseconds since 1970; `None` keeps the kernel's clock, which is right where
    /// the host's KVM tells it.
    pub clock_ns: Option<u64>,
    /// What `/` is.
    pub root: Root,
    /// Whether nothing can be written to it once all is in place.
    pub read_only: bool,
    /// File systems to mount on it, in this order.
    pub mounts: Vec<Mount>,
    /// Entries of `/etc/passwd` besides root and nobody. Each gets a group of its name and number.
    pub users: Vec<User>,
    /// Whether to write `/etc/{passwd,group,hosts,hostname,resolv.conf,nsswitch.conf}`. A root that
    /// is the host's own tree has them already.
    pub write_etc: bool,
    /// Lines of `/etc/hosts` besides the machine's own: an address and a name each.
    pub hosts: Vec<(IpAddr, String)>,
    /// What `/etc/resolv.conf` says.
    pub resolver: Resolver,
    /// Network interfaces to set up.
    pub links: Vec<Link>,
    /// Kernel messages below this level go to the console (`/proc/sys/kernel/printk`); `None` keeps
    /// what the kernel's command line says.
    pub console_level: Option<u8>,
    /// Files in memory whose content is nobody else's business.
    pub secrets: Vec<SecretFile>,
    /// A folder that is made with its parents, if there is none: where an image's program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_folder: Option<ByteString>,
    /// Names of more ports at which the host speaks this protocol; each is served by a process of
    /// its own.
    pub ports: Vec<String>,
}

/// Whom programs ask for names (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolver {
    /// Addresses of servers.
    pub servers: Vec<IpAddr>,
    /// Domains in which short names are looked for.
    pub search: Vec<String>,
    /// Further options.
    pub options: Vec<String>,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Root {
    /// Empty, in memory, lost at the end.
    Tmpfs {
        /// Most memory that it takes, in KiB; `None` is half of the machine's.
        size_kib: Option<u64>,
    },
    /// Empty at first, and kept on a volume: an overlay, whose upper layer is there, over a lower one
    /// that is made anew at each start. `/run` and `/tmp` are in memory.
    Overlay {
        /// Serial of the volume's disk.
        volume: String,
    },
    /// An image, whose tree the host serves: an overlay over it.
    Image {
        /// The tree's mount tag.
        tag: String,
        /// What the upper layer is on.
        upper: Upper,
    },
    /// A tree of the host that the guest changes, over virtio-fs.
    Share {
        /// The device's mount tag.
        tag: String,
    },
    /// What the stage 1 of a system makes of it, whose archive was unpacked beside this program.
    Initrd,
    /// A tree of the host over 9p (trans=virtio).
    #[serde(rename = "9p")]
    Plan9 {
        /// The device's mount tag.
        tag: String,
        /// Mount options besides `trans=virtio`, comma separated.
        options: String,
        /// Whether writing to it fails with `EROFS`.
        read_only: bool,
    },
}

/// What keeps the changes to a tree that does not change itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Upper {
    /// Memory, lost at the end: at most so many KiB.
    Tmpfs {
        /// The limit.
        size_kib: u64,
    },
    /// A volume.
    Volume {
        /// Serial of its disk.
        serial: String,
    },
}

impl Default for Root {
    fn default() -> Self {
        Self::Tmpfs { size_kib: None }
    }
}

/// A file system below the root. All are mounted `nodev` and `nosuid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Its type.
    pub file_system: FileSystem,
    /// The device's mount tag, or a disk's serial; for a tmpfs any word.
    pub source: String,
    /// Absolute path in the guest. It and its parents are made if they are missing and the file
    /// system above lets them be made.
    pub mount_point: ByteString,
    /// Whether writing to it fails with `EROFS`.
    pub read_only: bool,
    /// Mount options of the file system, comma separated.
    pub options: String,
    /// A file at its top, which alone is at the mount point: the rest is not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ByteString>,
    /// Of a volume or memory: whether it gets what is at the mount point while it is empty, as
    /// container engines have it for an image's.
    #[serde(default)]
    pub fill: bool,
    /// Whether what is at the mount point already shows beside it, read-only as a whole: names of
    /// this file system hide those.
    #[serde(default)]
    pub beside: bool,
    /// Of a store: what keeps what the guest adds to it, if it can. Its folder `/nix/var` is then there,
    /// too.
    #[serde(default)]
    pub upper: Option<Upper>,
}

/// Types of file system that a host can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// FUSE over a virtio-fs device.
    Virtiofs,
    /// 9p over virtio.
    #[serde(rename = "9p")]
    Plan9,
    /// Memory.
    Tmpfs,
    /// ext4 on a disk.
    Ext4,
    /// EROFS on a disk, read-only by itself.
    Erofs,
    /// EROFS in memory of the host's, of which the guest keeps no copy.
    #[serde(rename = "erofs-dax")]
    ErofsDax,
}

impl FileSystem {
    /// The name that `mount` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtiofs => "virtiofs",
            Self::Plan9 => "9p",
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Erofs | Self::ErofsDax => "erofs",
        }
    }
}

/// An entry of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name, also that of its group.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Home folder; it is made, and given to the user, if it is missing.
    pub home: String,
}

/// A network interface that the machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its hardware address, by which it is found.
    pub mac: [u8; 6],
    /// The name that it gets.
    pub name: String,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// Its addresses, each with the bits of the network's part.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where packets for all other networks go; they need not be in one of its own.
    pub gateways: Vec<IpAddr>,
    /// An address to which nothing is sent.
    pub closed: Option<IpAddr>,
}

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Where to, as the guest sees it.
    pub address: SocketAddr,
    /// UDP rather than TCP: each frame of data is a datagram, and none waits.
    pub datagrams: bool,
    /// Whether to wait for somebody to listen there, rather than to be refused.
    pub patient: bool,
}

/// One execution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments; a name without slash is looked up in the `PATH` of `env`. If
    /// that has none, the store's folders are looked into last. Empty is a shell.
    pub argv: Vec<ByteString>,
    /// `NAME=VALUE` each. `PATH`, `HOME`, `USER` and, with a terminal, `TERM` are added if missing.
    pub env: Vec<ByteString>,
    /// Working folder; `None` is `/`.
    pub cwd: Option<ByteString>,
    /// `name`, `uid`, `name:group` or `uid:gid`; `None` is root.
    pub user: Option<String>,
    /// A terminal for standard input, output and error; `None` gives three pipes.
    pub tty: Option<Tty>,
    /// Whether the host sends input. Without it, and without a terminal, input is `/dev/null`.
    pub stdin: bool,
    /// If process 1 of the guest becomes it, as that of a system, how; its end is that of the machine.
    pub init: Option<Init>,
    /// What it may do, beside what its user may.
    #[serde(default, skip_serializing_if = "Bounds::are_none")]
    pub bounds: Bounds,
}

/// What a program may do, where somebody else than its user says that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Groups beside those that its user has: names of `/etc/group`, or numbers.
    pub groups: Vec<String>,
    /// And by their numbers alone, whatever the groups of `/etc/group` are called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gids: Vec<u32>,
    /// Whether its user and its group are numbers, too, whatever is called so there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_numbered: bool,
    /// Limits of its process; others are as all programs have them.
    pub limits: Vec<Limit>,
    /// Permissions that files which it makes do not get; `None` is 022.
    pub umask: Option<u32>,
}

impl Bounds {
    /// Whether all is as programs have it.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit of a process (setrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Linux' number of the resource.
    pub resource: u32,
    /// What holds; the largest number is no limit.
    pub soft: u64,
    /// What the process may set it to.
    pub hard: u64,
}

/// What process 1 becomes, once it has a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Init {
    /// Stage 2 of a system, whose root is in place: the `/dev/console` that it finds is the terminal.
    System,
    /// Stage 1 of one, which finds the initramfs as the kernel leaves it, with nothing mounted. What is
    /// written to any `/dev/console` comes to the terminal.
    Stage1,
}

/// The terminal of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tty {
    /// Height in characters.
    pub rows: u16,
    /// Width in characters.
    pub cols: u16,
    /// Value of `TERM`; empty leaves it unset.
    pub term: String,
}
