//! Directory entries: READDIR, READDIRPLUS.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Entries begin at multiples of this (`FUSE_DIRENT_ALIGN`); zeros fill the gap.
pub const DIRENT_ALIGN: usize = 8;

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
