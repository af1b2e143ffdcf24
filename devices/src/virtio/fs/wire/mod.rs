//! The FUSE protocol's bytes: version 7.41, as `include/uapi/linux/fuse.h` of Linux 6.12 has it.
//!
//! Every structure is made of plain integers without padding, so that any bytes are a value and
//! any value is bytes. The guest's byte order is the host's (virtio 1.2 §5.11.6.2 leaves FUSE's
//! native order in place, and both sides are little endian). Only what this server reads or
//! writes is here.

mod change;
mod dirent;
mod file;
mod init;
mod mapping;
mod node;
pub mod opcode;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use change::{
    CopyFileRangeIn, CreateIn, FSYNC_DATA, FallocateIn, FsyncIn, GetxattrIn, GetxattrOut, LinkIn,
    LseekIn, LseekOut, MkdirIn, MknodIn, Rename2In, RenameIn, Set, SetattrIn, SetxattrIn, WriteIn,
    WriteOut,
};
pub use dirent::{DIRENT_ALIGN, Dirent, LISTING_END};
pub use file::{FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, OpenIn, OpenOut, ReadIn, ReleaseIn, StatfsOut};
pub use init::{Flags, InitIn, InitInExt, InitOut, MAJOR, MINOR, MINOR_MIN};
pub use mapping::{
    ATTR_DAX, MAPPING_READ, MAPPING_WRITE, RemoveMappingIn, RemoveMappingOne, SetupMappingIn,
};
pub use node::{
    Attr, AttrOut, BatchForgetIn, EntryOut, ForgetIn, ForgetOne, GETATTR_FH, GetattrIn, ROOT_ID,
};

/// `struct fuse_in_header`: how each request begins.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InHeader {
    /// Bytes of the request, this header included.
    pub len: u32,
    /// One of [`opcode`].
    pub opcode: u32,
    /// The guest's name for the request, given back in the reply.
    pub unique: u64,
    /// The node that the request is about.
    pub nodeid: u64,
    /// User of the process in the guest, who gets what is created. The guest checks permissions.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id.
    pub pid: u32,
    /// Bytes of extensions at the request's end, in units of eight.
    pub total_extlen: u16,
    /// Not used.
    pub padding: u16,
}

/// `struct fuse_out_header`: how each reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OutHeader {
    /// Bytes of the reply, this header included.
    pub len: u32,
    /// 0, or an error number below zero.
    pub error: i32,
    /// The request's.
    pub unique: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_fuse_h() {
        let sizes = [
            (size_of::<InHeader>(), 40),
            (size_of::<OutHeader>(), 16),
            (size_of::<InitIn>(), 16),
            (size_of::<InitIn>() + size_of::<InitInExt>(), 64),
            (size_of::<InitOut>(), 64),
            (size_of::<Attr>(), 88),
            (size_of::<EntryOut>(), 128),
            (size_of::<AttrOut>(), 104),
            (size_of::<GetattrIn>(), 16),
            (size_of::<ForgetIn>(), 8),
            (size_of::<ForgetOne>(), 16),
            (size_of::<BatchForgetIn>(), 8),
            (size_of::<OpenIn>(), 8),
            (size_of::<OpenOut>(), 16),
            (size_of::<ReadIn>(), 40),
            (size_of::<ReleaseIn>(), 24),
            (size_of::<StatfsOut>(), 80),
            (size_of::<Dirent>(), 24),
            (size_of::<SetattrIn>(), 88),
            (size_of::<CreateIn>(), 16),
            (size_of::<MknodIn>(), 16),
            (size_of::<MkdirIn>(), 8),
            (size_of::<RenameIn>(), 8),
            (size_of::<Rename2In>(), 16),
            (size_of::<LinkIn>(), 8),
            (size_of::<WriteIn>(), 40),
            (size_of::<WriteOut>(), 8),
            (size_of::<FsyncIn>(), 16),
            (size_of::<FallocateIn>(), 32),
            (size_of::<LseekIn>(), 24),
            (size_of::<LseekOut>(), 8),
            (size_of::<CopyFileRangeIn>(), 56),
            (size_of::<SetxattrIn>(), 8),
            (size_of::<GetxattrIn>(), 8),
            (size_of::<GetxattrOut>(), 8),
            (size_of::<SetupMappingIn>(), 40),
            (size_of::<RemoveMappingIn>(), 4),
            (size_of::<RemoveMappingOne>(), 16),
        ];
        for (size, expected) in sizes {
            assert_eq!(size, expected);
        }
    }
}
