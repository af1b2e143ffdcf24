//! INIT: versions, feature flags and limits.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_KERNEL_VERSION`.
pub const MAJOR: u32 = 7;
/// `FUSE_KERNEL_MINOR_VERSION` that the structures here are of.
pub const MINOR: u32 = 41;
/// The oldest minor version spoken: Linux 5.4, the first with virtio-fs, has 7.31. No structure
/// that is used here has changed since.
pub const MINOR_MIN: u32 = 31;

bitflags! {
    /// The INIT flags that this server answers with (`FUSE_*` of the same names); `flags2` is
    /// the upper half.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// Several reads of a file may be in flight.
        const ASYNC_READ = 1 << 0;
        /// `O_TRUNC` comes with OPEN.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// A WRITE may be longer than a page.
        const BIG_WRITES = 1 << 5;
        /// Cached pages go when a file's size or time of change does.
        const AUTO_INVAL_DATA = 1 << 12;
        /// READDIRPLUS is understood.
        const DO_READDIRPLUS = 1 << 13;
        /// The guest chooses between READDIR and READDIRPLUS.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Direct reads may be split into several in flight.
        const ASYNC_DIO = 1 << 15;
        /// `ENOSYS` to OPEN means: never ask again.
        const NO_OPEN_SUPPORT = 1 << 17;
        /// Lookups and listings of one directory may be in flight together.
        const PARALLEL_DIROPS = 1 << 18;
        /// `max_pages` is meant.
        const MAX_PAGES = 1 << 22;
        /// The targets of symbolic links may be cached.
        const CACHE_SYMLINKS = 1 << 23;
        /// `ENOSYS` to OPENDIR means: never ask again.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// `map_alignment` is meant: the guest has a DAX window.
        const MAP_ALIGNMENT = 1 << 26;
        /// The server clears set-uid bits and capabilities of files that are written.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// `flags2` is meant.
        const INIT_EXT = 1 << 30;
        /// A file's attributes say whether it is mapped.
        const HAS_INODE_DAX = 1 << 33;
    }
}

/// `struct fuse_init_in` as far as every version has it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitIn {
    /// Protocol version of the guest.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
    /// Bytes that the guest reads ahead at most.
    pub max_readahead: u32,
    /// Lower half of [`Flags`].
    pub flags: u32,
}

/// The rest of `struct fuse_init_in`, there when `INIT_EXT` is set.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitInExt {
    /// Upper half of [`Flags`].
    pub flags2: u32,
    /// Not used.
    pub unused: [u32; 11],
}

/// `struct fuse_init_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitOut {
    /// Protocol version of the server.
    pub major: u32,
    /// The minor version that both speak.
    pub minor: u32,
    /// Bytes of read-ahead that are allowed.
    pub max_readahead: u32,
    /// Lower half of [`Flags`].
    pub flags: u32,
    /// Background requests in flight; 0: the guest's default.
    pub max_background: u16,
    /// When the guest calls itself congested; 0: the guest's default.
    pub congestion_threshold: u16,
    /// Bytes of one WRITE.
    pub max_write: u32,
    /// Granularity of times, in nanoseconds.
    pub time_gran: u32,
    /// Pages of one request.
    pub max_pages: u16,
    /// What mappings begin at, in files and in the DAX window: a power of two.
    pub map_alignment: u16,
    /// Upper half of [`Flags`].
    pub flags2: u32,
    /// For passthrough, which needs both sides in one kernel.
    pub max_stack_depth: u32,
    /// Not used.
    pub unused: [u32; 6],
}
