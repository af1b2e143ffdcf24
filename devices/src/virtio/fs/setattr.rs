//! Attributes that the guest sets: SETATTR.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, chmodat, chownat,
    fstat, ftruncate, utimensat,
};
use rustix::io::Errno;

use super::handles::Open;
use super::host;
use super::lock;
use super::nodes::Kind;
use super::reply::{Failure, Sink};
use super::request::Request;
use super::server::Server;
use super::wire::{AttrOut, Set, SetattrIn};

/// A node's file, by a descriptor that may be good for nothing but to reach it.
pub enum Reached {
    /// By its name.
    Place(OwnedFd),
    /// By a handle, for it has no name any more.
    Open(Arc<Open>),
}

impl AsFd for Reached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Place(fd) => fd.as_fd(),
            Self::Open(open) => open.fd.as_fd(),
        }
    }
}

impl Server {
    pub(super) fn setattr(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        reply.require(size_of::<AttrOut>())?;
        let arguments: SetattrIn = request.arguments()?;
        let set = Set::from_bits_truncate(arguments.valid);
        let node = request.header.nodeid;
        let file = if set.contains(Set::FH) {
            Reached::Open(lock(&self.handles).get(arguments.fh, node)?)
        } else {
            self.reach(node)?
        };
        self.set(file.as_fd(), set, &arguments)?;
        let stat = fstat(&file)?;
        self.put_attributes(node, &stat, reply)
    }

    fn set(&self, file: BorrowedFd<'_>, set: Set, arguments: &SetattrIn) -> Result<(), Errno> {
        if set.intersects(Set::UID | Set::GID) {
            let uid = set.contains(Set::UID).then_some(arguments.uid);
            let gid = set.contains(Set::GID).then_some(arguments.gid);
            let (uid, gid) = self.content.owners().wanted(uid, gid)?;
            chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if set.contains(Set::MODE) {
            let kind = host::identity(&fstat(file)?).kind;
            let mode = host::permissions(kind, arguments.mode);
            chmodat(CWD, host::path_of(file), mode, AtFlags::empty())?;
        }
        if set.contains(Set::SIZE) {
            cut(file, &fstat(file)?, arguments.size)?;
        }
        if set.intersects(Set::ATIME | Set::MTIME) {
            utimensat(file, c"", &times(set, arguments), AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// The file that a node is, by its name or, where it is open and has none left, by a handle.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub(super) fn reach(&self, node: u64) -> Result<Reached, Errno> {
        match self.tree.open_place(node) {
            Err(Errno::STALE) => {
                let open = lock(&self.handles).of_node(node);
                open.map(Reached::Open).ok_or(Errno::STALE)
            }
            place => place.map(Reached::Place),
        }
    }

    /// Sets the length of a file, as the guest knows then.
    pub(super) fn truncate(&self, node: u64, size: u64) -> Result<(), Errno> {
        let file = self.reach(node)?;
        cut(file.as_fd(), &fstat(&file)?, size)?;
        self.tell(node, &fstat(&file)?);
        Ok(())
    }
}

/// ftruncate(2), by the descriptor at hand where it is open for writing: the file's permissions may
/// no longer allow what its opening did. Otherwise by one of its own.
fn cut(file: BorrowedFd<'_>, stat: &Stat, size: u64) -> Result<(), Errno> {
    match host::identity(stat).kind {
        Kind::File => {}
        Kind::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    if i64::try_from(size).is_err() {
        return Err(Errno::FBIG);
    }
    match ftruncate(file, size) {
        Err(Errno::BADF | Errno::INVAL) => ftruncate(host::reopen(file, OFlags::WRONLY)?, size),
        done => done,
    }
}

fn times(set: Set, arguments: &SetattrIn) -> Timestamps {
    let time = |given, now, seconds: u64, nanoseconds: u32| {
        let tv_nsec = match () {
            () if !set.contains(given) => UTIME_OMIT,
            () if set.contains(now) => UTIME_NOW,
            () => nanoseconds.into(),
        };
        Timespec {
            tv_sec: seconds.cast_signed(),
            tv_nsec,
        }
    };
    let SetattrIn {
        atime,
        atimensec,
        mtime,
        mtimensec,
        ..
    } = *arguments;
    Timestamps {
        last_access: time(Set::ATIME, Set::ATIME_NOW, atime, atimensec),
        last_modification: time(Set::MTIME, Set::MTIME_NOW, mtime, mtimensec),
    }
}
