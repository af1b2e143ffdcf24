//! The host's files: the second of the three walls around a share.
//!
//! A path is opened by the kernel with the order not to leave the directory that it starts from
//! and to follow no link whatever (openat2(2)). So neither a name that got past the first wall
//! nor a host directory that is moved or replaced meanwhile leads out of the share. Mount points
//! below the root are crossed, as a user who shares a folder expects; a guest cannot make any. But
//! nothing of `/proc` is opened, wherever it is mounted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::name::OwnName;
use super::nodes::{Identity, Kind};
use super::owners::Owners;
use super::wire::Attr;

/// `PATH_MAX` without its NUL: a deeper directory is reached in steps.
const PATH_BYTES_MAX: usize = 4095;

/// What statfs(2) says of `/proc`.
const PROC_SUPER_MAGIC: fs::FsWord = 0x9fa0;

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Only a place, without a right to read: names are looked up from it.
pub const PLACE: OFlags = OFlags::PATH;

/// A directory as a place.
pub const DIRECTORY_PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// A directory for its listing.
pub const LISTING: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// A file for its content. Should it have become a FIFO, a terminal or a file whose read waits
/// (some in /proc), neither the open nor a read makes the worker wait.
pub const CONTENT: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens the directory to share. Here alone links are followed: the path is the user's.
///
/// # Errors
/// It is no directory that this process may pass through, or the kernel has no openat2(2).
pub fn open_root(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = DIRECTORY_PLACE | OFlags::CLOEXEC;
    let root = fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot share {}", path.display()))?;
    open_beneath(&root, b".", DIRECTORY_PLACE).with_context(|| {
        let path = path.display();
        format!("cannot share {path}: openat2, which Linux has since 5.6, does not work")
    })?;
    ensure!(
        !is_proc(&root)?,
        "cannot share {}: processes are files there, this one's memory among them",
        path.display()
    );
    Ok(root)
}

/// Whether a file is one of the kernel's about its processes. Of this process there are its memory
/// and its descriptors, and so a way out of the share.
///
/// # Errors
/// As fstatfs(2).
pub fn is_proc(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(fs::fstatfs(fd)?.f_type == PROC_SUPER_MAGIC)
}

/// Opens what is at `path` below `directory`, never a link's target.
///
/// # Errors
/// As openat2(2).
pub fn open_beneath(directory: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = directory.as_fd();
    retry_on_intr(|| fs::openat2(directory, path, flags, Mode::empty(), RESOLVE))
}

/// Makes the file `name` in `directory` and opens it. What is there already is an error, and a
/// link is there whatever it points to.
///
/// # Errors
/// As openat2(2).
pub fn create_beneath(
    directory: impl AsFd,
    name: &[u8],
    access: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = CONTENT | access | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let directory = directory.as_fd();
    retry_on_intr(|| fs::openat2(directory, name, flags, mode, RESOLVE))
}

/// The path by which system calls that take no descriptor reach the file that one is open of, also
/// where it was opened only as a place. Unlike the file's own it cannot lead elsewhere.
pub fn path_of(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens once more what a descriptor is open of.
///
/// # Errors
/// As open(2).
pub fn reopen(fd: impl AsFd, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = CONTENT | access | OFlags::CLOEXEC;
    retry_on_intr(|| fs::open(path_of(fd.as_fd()), flags, Mode::empty()))
}

/// The permissions that a guest may give a file of this kind. On the host nothing that it makes
/// runs with another's rights; on a directory the set-group bit only says whose group new files
/// get.
pub fn permissions(kind: Kind, mode: u32) -> Mode {
    let mode = Mode::from_raw_mode(mode).difference(Mode::SUID);
    match kind {
        Kind::Directory => mode,
        _ => mode.difference(Mode::SGID),
    }
}

/// Opens the directory at the end of `names`, the topmost of which is in `base`.
///
/// # Errors
/// As openat2(2).
pub fn open_path<'a>(
    base: impl AsFd,
    names: impl Iterator<Item = &'a OwnName>,
) -> Result<OwnedFd, Errno> {
    let mut reached: Option<OwnedFd> = None;
    let mut path = Vec::new();
    let step = |reached: &Option<OwnedFd>, path: &[u8]| {
        let from = reached.as_ref().map_or(base.as_fd(), AsFd::as_fd);
        open_beneath(from, path, DIRECTORY_PLACE)
    };
    for name in names {
        let longer = path
            .len()
            .saturating_add(1)
            .saturating_add(name.bytes().len());
        if longer > PATH_BYTES_MAX {
            reached = Some(step(&reached, &path)?);
            path.clear();
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.bytes());
    }
    step(&reached, &path)
}

/// What `name` in `directory` is; a link is itself.
///
/// # Errors
/// As fstatat(2).
pub fn stat_name(directory: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    fs::statat(directory, name, flags)
}

/// Which file a node is.
pub fn identity(stat: &Stat) -> Identity {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        _ => Kind::Special,
    };
    Identity {
        ino: stat.st_ino,
        dev: device(stat.st_dev),
        kind,
    }
}

/// What the guest is told of a file, in a share whose root is on device `root_dev`.
pub fn attributes(stat: &Stat, root_dev: u32, owners: Owners) -> Attr {
    let (uid, gid) = owners.shown(stat);
    Attr {
        ino: shown_ino(stat.st_ino, device(stat.st_dev), root_dev),
        size: stat.st_size.cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        atime: stat.st_atime.cast_unsigned(),
        mtime: stat.st_mtime.cast_unsigned(),
        ctime: stat.st_ctime.cast_unsigned(),
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid,
        gid,
        rdev: device(stat.st_rdev),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        flags: 0,
    }
}

/// The inode number that programs in the guest see. They see one device, so files of a second
/// host device below the root, which may have the same numbers, get theirs mixed with it: `find`
/// would otherwise report a loop, and `cp -a` a hard link.
pub fn shown_ino(ino: u64, dev: u32, root_dev: u32) -> u64 {
    if dev == root_dev {
        return ino;
    }
    // Any odd number spreads device numbers, which differ in few bits, over the upper half.
    let mixed = u64::from(dev).wrapping_mul(0x9e37_79b9_7f4a_7c15) & !0xffff_ffff;
    (ino ^ mixed).max(1)
}

/// `new_encode_dev` of Linux, whose 32 bits are the lower half of the C library's `dev_t`.
fn device(dev: u64) -> u32 {
    dev as u32
}
