//! The DAX window: SETUPMAPPING, REMOVEMAPPING.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_ATTR_DAX` in [`super::Attr::flags`]: the file's content is to be had through the window.
pub const ATTR_DAX: u32 = 1 << 1;

/// `FUSE_SETUPMAPPING_FLAG_WRITE`: the guest writes through the mapping.
pub const MAPPING_WRITE: u64 = 1 << 0;
/// `FUSE_SETUPMAPPING_FLAG_READ`.
pub const MAPPING_READ: u64 = 1 << 1;

/// `struct fuse_setupmapping_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupMappingIn {
    /// Open file; Linux has none to tell.
    pub fh: u64,
    /// Byte of the file that the mapping begins at.
    pub foffset: u64,
    /// Bytes.
    pub len: u64,
    /// [`MAPPING_READ`], [`MAPPING_WRITE`].
    pub flags: u64,
    /// Byte of the window that it begins at.
    pub moffset: u64,
}

/// `struct fuse_removemapping_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveMappingIn {
    /// How many [`RemoveMappingOne`] follow.
    pub count: u32,
}

/// `struct fuse_removemapping_one`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveMappingOne {
    /// Byte of the window.
    pub moffset: u64,
    /// Bytes.
    pub len: u64,
}
