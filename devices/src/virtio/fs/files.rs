//! Content: OPEN, OPENDIR, READ, RELEASE.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::handles::Open;
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
        let read_only = wanted & OFlags::RWMODE == OFlags::RDONLY;
        if !read_only || wanted.intersects(OFlags::TRUNC | OFlags::CREATE) {
            return Err(Errno::ROFS.into());
        }
        let unasked = flags.contains(Flags::NO_OPEN_SUPPORT);
        self.open_as(Kind::File, unasked, request.header.nodeid, reply)
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
            self.hold(node)?
        };
        reply.put_object(&OpenOut {
            fh,
            open_flags: kept | FOPEN_NOFLUSH,
            backing_id: 0,
        })
    }

    /// Opens a file that may change, and holds it open: its handle, and `FOPEN_KEEP_CACHE` where
    /// that is safe.
    fn hold(&self, node: u64) -> Result<(u64, u32), Errno> {
        let open = self.tree.open_node(node).inspect_err(|error| {
            if *error == Errno::MFILE {
                self.counters.count_handle_refused();
            }
        })?;
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
        let handle = lock(&self.handles).insert(open);
        let handle = handle.inspect_err(|_| self.counters.count_handle_refused())?;
        Ok((handle, kept))
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
