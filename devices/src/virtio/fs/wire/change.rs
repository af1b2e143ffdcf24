//! Changes: CREATE and its like, SETATTR, WRITE, FSYNC, FALLOCATE, extended attributes.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// What a SETATTR is to set (`FATTR_*`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Set: u32 {
        /// Permissions.
        const MODE = 1 << 0;
        /// Owner.
        const UID = 1 << 1;
        /// Group.
        const GID = 1 << 2;
        /// Length.
        const SIZE = 1 << 3;
        /// Time of access.
        const ATIME = 1 << 4;
        /// Time of change of content.
        const MTIME = 1 << 5;
        /// `fh` is meant.
        const FH = 1 << 6;
        /// Time of access: that of the server's clock.
        const ATIME_NOW = 1 << 7;
        /// Time of change: that of the server's clock.
        const MTIME_NOW = 1 << 8;
    }
}

/// `struct fuse_setattr_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetattrIn {
    /// [`Set`].
    pub valid: u32,
    /// Not used.
    pub padding: u32,
    /// An open file's handle.
    pub fh: u64,
    /// New length.
    pub size: u64,
    /// For locks.
    pub lock_owner: u64,
    /// Seconds, in two's complement.
    pub atime: u64,
    /// Seconds, in two's complement.
    pub mtime: u64,
    /// For guests that keep times themselves.
    pub ctime: u64,
    /// Nanoseconds of `atime`.
    pub atimensec: u32,
    /// Nanoseconds of `mtime`.
    pub mtimensec: u32,
    /// Nanoseconds of `ctime`.
    pub ctimensec: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Not used.
    pub unused4: u32,
    /// New owner.
    pub uid: u32,
    /// New group.
    pub gid: u32,
    /// Not used.
    pub unused5: u32,
}

/// `struct fuse_create_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateIn {
    /// The guest's `O_*`.
    pub flags: u32,
    /// Type and permissions, less the umask.
    pub mode: u32,
    /// The umask, which is applied already.
    pub umask: u32,
    /// `FUSE_OPEN_*`.
    pub open_flags: u32,
}

/// `struct fuse_mknod_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MknodIn {
    /// Type and permissions, less the umask.
    pub mode: u32,
    /// Device number.
    pub rdev: u32,
    /// The umask, which is applied already.
    pub umask: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_mkdir_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MkdirIn {
    /// Permissions, less the umask.
    pub mode: u32,
    /// The umask, which is applied already.
    pub umask: u32,
}

/// `struct fuse_rename_in`; both names follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RenameIn {
    /// Directory of the new name.
    pub newdir: u64,
}

/// `struct fuse_rename2_in`; both names follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rename2In {
    /// Directory of the new name.
    pub newdir: u64,
    /// `RENAME_*`.
    pub flags: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_link_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkIn {
    /// Node that gets one more name.
    pub oldnodeid: u64,
}

/// `struct fuse_write_in`; the data follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WriteIn {
    /// Open file.
    pub fh: u64,
    /// Byte in the file.
    pub offset: u64,
    /// Bytes of data.
    pub size: u32,
    /// `FUSE_WRITE_*`.
    pub write_flags: u32,
    /// For locks.
    pub lock_owner: u64,
    /// The open file's `O_*`.
    pub flags: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_write_out`, also the reply to `COPY_FILE_RANGE`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WriteOut {
    /// Bytes written.
    pub size: u32,
    /// Not used.
    pub padding: u32,
}

/// `FUSE_FSYNC_FDATASYNC`: content and length, not the times.
pub const FSYNC_DATA: u32 = 1;

/// `struct fuse_fsync_in`, of FSYNC and FSYNCDIR.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FsyncIn {
    /// Open file.
    pub fh: u64,
    /// [`FSYNC_DATA`] or nothing.
    pub fsync_flags: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_fallocate_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FallocateIn {
    /// Open file.
    pub fh: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// `FALLOC_FL_*`.
    pub mode: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_lseek_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LseekIn {
    /// Open file.
    pub fh: u64,
    /// Byte to start from.
    pub offset: u64,
    /// `SEEK_DATA` or `SEEK_HOLE`; the guest does the others by itself.
    pub whence: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_lseek_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LseekOut {
    /// Byte found.
    pub offset: u64,
}

/// `struct fuse_copy_file_range_in`; the header's node is the one to read.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyFileRangeIn {
    /// Open file to read.
    pub fh_in: u64,
    /// Byte in it.
    pub off_in: u64,
    /// Node to write.
    pub nodeid_out: u64,
    /// Open file to write.
    pub fh_out: u64,
    /// Byte in it.
    pub off_out: u64,
    /// Bytes.
    pub len: u64,
    /// None is defined.
    pub flags: u64,
}

/// `struct fuse_setxattr_in` without `FUSE_SETXATTR_EXT`; name and value follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetxattrIn {
    /// Bytes of the value.
    pub size: u32,
    /// `XATTR_CREATE`, `XATTR_REPLACE` or nothing.
    pub flags: u32,
}

/// `struct fuse_getxattr_in`, of GETXATTR, which a name follows, and LISTXATTR.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetxattrIn {
    /// Room for the answer; 0 asks how much is needed.
    pub size: u32,
    /// Not used.
    pub padding: u32,
}

/// `struct fuse_getxattr_out`, when `size` was 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetxattrOut {
    /// Bytes of the answer.
    pub size: u32,
    /// Not used.
    pub padding: u32,
}
