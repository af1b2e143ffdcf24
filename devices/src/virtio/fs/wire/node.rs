//! Nodes: LOOKUP, FORGET, GETATTR.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_ROOT_ID`: the node that needs no LOOKUP.
pub const ROOT_ID: u64 = 1;

/// `FUSE_GETATTR_FH` in [`GetattrIn::getattr_flags`]: `fh` is meant.
pub const GETATTR_FH: u32 = 1;

/// `struct fuse_attr`: what stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Attr {
    /// Inode number that programs see.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes on disk.
    pub blocks: u64,
    /// Seconds of the last access; all times may be negative, in two's complement.
    pub atime: u64,
    /// Seconds of the last change of content.
    pub mtime: u64,
    /// Seconds of the last change of inode or content.
    pub ctime: u64,
    /// Nanoseconds of `atime`.
    pub atimensec: u32,
    /// Nanoseconds of `mtime`.
    pub mtimensec: u32,
    /// Nanoseconds of `ctime`.
    pub ctimensec: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Preferred size of a read.
    pub blksize: u32,
    /// [`super::ATTR_DAX`] or nothing.
    pub flags: u32,
}

/// `struct fuse_entry_out`: a name's node. Node 0: there is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryOut {
    /// Node, on which the guest now holds one more lookup.
    pub nodeid: u64,
    /// Tells apart the nodes that had one number in turn.
    pub generation: u64,
    /// Seconds for which the name is valid.
    pub entry_valid: u64,
    /// Seconds for which the attributes are valid.
    pub attr_valid: u64,
    /// Nanoseconds to `entry_valid`.
    pub entry_valid_nsec: u32,
    /// Nanoseconds to `attr_valid`.
    pub attr_valid_nsec: u32,
    /// The node's attributes.
    pub attr: Attr,
}

/// `struct fuse_attr_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AttrOut {
    /// Seconds for which the attributes are valid.
    pub attr_valid: u64,
    /// Nanoseconds to `attr_valid`.
    pub attr_valid_nsec: u32,
    /// Not used.
    pub dummy: u32,
    /// The attributes.
    pub attr: Attr,
}

/// `struct fuse_getattr_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetattrIn {
    /// [`GETATTR_FH`] or nothing.
    pub getattr_flags: u32,
    /// Not used.
    pub dummy: u32,
    /// An open file's handle.
    pub fh: u64,
}

/// `struct fuse_forget_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForgetIn {
    /// Lookups that the guest gives back.
    pub nlookup: u64,
}

/// `struct fuse_forget_one`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForgetOne {
    /// Node.
    pub nodeid: u64,
    /// Lookups that the guest gives back.
    pub nlookup: u64,
}

/// `struct fuse_batch_forget_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BatchForgetIn {
    /// How many [`ForgetOne`] follow.
    pub count: u32,
    /// Not used.
    pub dummy: u32,
}
