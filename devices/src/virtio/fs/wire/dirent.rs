//! Directory entries: READDIR, READDIRPLUS.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries begin at multiples of this (`FUSE_DIRENT_ALIGN`); zeros fill the gap.
pub const DIRENT_ALIGN: usize = 8;

/// Where a listing goes on after a directory's last entry, as far as one is known to be the last: nowhere.
/// No directory has more positions (`LLONG_MAX`), so mvm's kernel does not ask what is there; others do,
/// and get an empty reply.
pub const LISTING_END: u64 = i64::MAX as u64;

/// `struct fuse_dirent` up to its name, which follows. In a READDIRPLUS reply an
/// [`super::EntryOut`] goes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dirent {
    /// Inode number.
    pub ino: u64,
    /// Where a listing goes on after this entry.
    pub off: u64,
    /// Bytes of the name, without a NUL.
    pub namelen: u32,
    /// `DT_*`.
    pub kind: u32,
}
