//! Content: OPEN, OPENDIR, READ, RELEASE. What writes is in `write.rs`.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::handles::Open;
use super::host;
use super::lock;
use super::nodes::Kind;
use super::reply::{Failure, Sink};
use super::request::Request;
use super::server::Server;
use super::session::READ_BYTES_MAX;
use super::wire::{FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, Flags, OpenIn, OpenOut, ReadIn, ReleaseIn};

impl Server {
    pub(super) fn open_file(
        &self,
        request: &Request<'_>,
        flags: Flags,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let OpenIn { flags: wanted, .. } = request.arguments()?;
        let wanted = OFlags::from_bits_retain(wanted);
        let access = wanted & OFlags::RWMODE;
        let node = request.header.nodeid;
        if self.content.writable() {
            return self.open_to_write(node, wanted, reply);
        }
        if access != OFlags::RDONLY || wanted.intersects(OFlags::TRUNC | OFlags::CREATE) {
            return Err(Errno::ROFS.into());
        }
        let unasked = flags.contains(Flags::NO_OPEN_SUPPORT);
        self.open_as(Kind::File, unasked, node, reply)
    }

    /// Opens a file of a writable share, where the guest may also cut it off (`ATOMIC_O_TRUNC`).
    fn open_to_write(
        &self,
        node: u64,
        wanted: OFlags,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        reply.require(size_of::<OpenOut>())?;
        self.must_be(Kind::File, node)?;
        let access = access(wanted)?;
        if wanted.contains(OFlags::TRUNC) {
            self.room_for_handle()?;
            self.truncate(node, 0)?;
        }
        let (fh, kept) = self.hold(node, access)?;
        reply.put_object(&open_out(fh, kept, access))
    }

    pub(super) fn open_directory(
        &self,
        request: &Request<'_>,
        flags: Flags,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let unasked = flags.contains(Flags::NO_OPENDIR_SUPPORT);
        self.open_as(Kind::Directory, unasked, request.header.nodeid, reply)
    }

    fn open_as(
        &self,
        kind: Kind,
        unasked: bool,
        node: u64,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        if unasked {
            // Linux opens by itself from now on, and keeps what it has cached.
            return Err(Errno::NOSYS.into());
        }
        reply.require(size_of::<OpenOut>())?;
        self.must_be(kind, node)?;
        let (fh, kept) = if self.content.immutable() {
            (0, FOPEN_KEEP_CACHE)
        } else {
            self.hold(node, OFlags::RDONLY)?
        };
        reply.put_object(&open_out(fh, kept, OFlags::RDONLY))
    }

    /// Opens a file that may change for `access`, and holds it open: its handle, and
    /// `FOPEN_KEEP_CACHE` where that is safe.
    pub(super) fn hold(&self, node: u64, access: OFlags) -> Result<(u64, u32), Errno> {
        let open = match self.tree.open_node(node, access) {
            Err(Errno::STALE) if self.content.writable() => self.open_again(node, access),
            open => open,
        };
        let open = open.inspect_err(|error| self.count_refused(*error))?;
        let mut kept = 0;
        if open.identity.kind == Kind::File {
            let stat = fstat(&open.fd)?;
            let mut freshness = lock(&self.freshness);
            if freshness.outdated(node, &stat, Instant::now()) {
                return Err(Errno::STALE);
            }
            if freshness.same_as_last_time(node, &stat, SystemTime::now()) {
                kept = FOPEN_KEEP_CACHE;
            }
        }
        Ok((self.keep(open)?, kept))
    }

    /// Opens a file that is open but has no name any more, as by way of the guest's `/proc`.
    fn open_again(&self, node: u64, access: OFlags) -> Result<Open, Errno> {
        let open = lock(&self.handles).of_node(node).ok_or(Errno::STALE)?;
        let fd = host::reopen(&open.fd, access)?;
        Ok(Open::new(node, open.identity, fd))
    }

    /// Refuses, before anything is changed, what would find no room for one handle more.
    pub(super) fn room_for_handle(&self) -> Result<(), Errno> {
        let room = lock(&self.handles).room();
        room.inspect_err(|error| self.count_refused(*error))
    }

    /// Holds an open file for the guest: its handle.
    pub(super) fn keep(&self, open: Open) -> Result<u64, Errno> {
        let handle = lock(&self.handles).insert(open);
        handle.inspect_err(|error| self.count_refused(*error))
    }

    pub(super) fn must_be(&self, kind: Kind, node: u64) -> Result<(), Errno> {
        let identity = lock(&self.tree.nodes).identity(node)?;
        match (identity.kind, kind) {
            (is, wanted) if is == wanted => Ok(()),
            (_, Kind::Directory) => Err(Errno::NOTDIR),
            (Kind::Directory, _) => Err(Errno::ISDIR),
            (Kind::Symlink, _) => Err(Errno::LOOP),
            // Opening a device or a FIFO does something to it, and may wait for ever.
            _ => Err(Errno::ACCESS),
        }
    }

    /// The open file that a request means.
    pub(super) fn opened(&self, node: u64, handle: u64) -> Result<Arc<Open>, Errno> {
        if self.content.immutable() {
            self.tree.kept_open(node)
        } else {
            lock(&self.handles).get(handle, node)
        }
    }

    pub(super) fn read(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let arguments: ReadIn = request.arguments()?;
        let past_any_file = i64::try_from(arguments.offset).is_err();
        if arguments.size > READ_BYTES_MAX || past_any_file {
            return Err(Errno::INVAL.into());
        }
        let size = arguments.size as usize;
        reply.require(size)?;
        let open = self.opened(request.header.nodeid, arguments.fh)?;
        if open.identity.kind != Kind::File {
            return Err(Errno::ISDIR.into());
        }
        // To the guest less than it asked for is the end of the file, so only that may end the
        // loop early: neither a short read nor an error after one may.
        while reply.body_bytes() < size {
            let offset = arguments.offset.saturating_add(reply.body_bytes() as u64);
            let left = size.saturating_sub(reply.body_bytes());
            match reply.put_file(open.fd.as_fd(), offset, left) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
            }
        }
        Ok(())
    }

    pub(super) fn release(&self, request: &Request<'_>) -> Result<(), Failure> {
        let ReleaseIn { fh, .. } = request.arguments()?;
        if !self.content.immutable() {
            lock(&self.handles).remove(fh, request.header.nodeid)?;
        }
        Ok(())
    }
}

/// What a file is opened for.
///
/// # Errors
/// `EINVAL`: both bits of the mode are set, which means neither of the three.
pub fn access(wanted: OFlags) -> Result<OFlags, Errno> {
    let access = wanted & OFlags::RWMODE;
    if access == OFlags::RWMODE {
        return Err(Errno::INVAL);
    }
    Ok(access)
}

/// The reply to OPEN. When a file was open for writing, the guest is to write at its closing what
/// programs have left in mapped pages; it then sends no FLUSH all the same (`fuse_flush`), once it
/// knows that there is none.
pub fn open_out(fh: u64, kept: u32, access: OFlags) -> OpenOut {
    let read_only = access == OFlags::RDONLY;
    let no_flush = if read_only { FOPEN_NOFLUSH } else { 0 };
    OpenOut {
        fh,
        open_flags: kept | no_flush,
        backing_id: 0,
    }
}
