//! Open files: OPEN, READ, RELEASE, STATFS.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The guest keeps what it has cached of the file.
pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// The guest sends no FLUSH when the file is closed.
pub const FOPEN_NOFLUSH: u32 = 1 << 5;

/// `struct fuse_open_in`, of OPEN and OPENDIR.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenIn {
    /// The guest's `O_*`, with Linux's generic values.
    pub flags: u32,
    /// `FUSE_OPEN_*`, for writers.
    pub open_flags: u32,
}

/// `struct fuse_open_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OpenOut {
    /// Names the open file in later requests.
    pub fh: u64,
    /// `FOPEN_*`.
    pub open_flags: u32,
    /// For passthrough, which needs both sides in one kernel.
    pub backing_id: i32,
}

/// `struct fuse_read_in`, of READ, READDIR and READDIRPLUS.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReadIn {
    /// Open file.
    pub fh: u64,
    /// Byte in a file; the `off` of the entry before in a directory.
    pub offset: u64,
    /// Bytes of reply wanted.
    pub size: u32,
    /// `FUSE_READ_*`, for locks.
    pub read_flags: u32,
    /// For locks.
    pub lock_owner: u64,
    /// The open file's `O_*`.
    pub flags: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_release_in`, of RELEASE and RELEASEDIR.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ReleaseIn {
    /// Open file that ends.
    pub fh: u64,
    /// Its `O_*`.
    pub flags: u32,
    /// `FUSE_RELEASE_*`, for locks.
    pub release_flags: u32,
    /// For locks.
    pub lock_owner: u64,
}

/// `struct fuse_statfs_out`, which is a `struct fuse_kstatfs`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatfsOut {
    /// Size in units of `frsize`.
    pub blocks: u64,
    /// Free units.
    pub bfree: u64,
    /// Free units for users other than root.
    pub bavail: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred size of a transfer.
    pub bsize: u32,
    /// Longest name.
    pub namelen: u32,
    /// Bytes of a unit.
    pub frsize: u32,
    /// Not used.
    pub padding: u32,
    /// Not used.
    pub spare: [u32; 6],
}
