//! Content that the guest writes: WRITE, FSYNC, FSYNCDIR, SYNCFS, FALLOCATE, LSEEK,
//! `COPY_FILE_RANGE`.
//!
//! What a guest's fsync(2) promises is the host's own promise: the reply comes after the host's
//! fsync(2). `O_DIRECT` passes the guest's cache by and not the host's, so that it asks no
//! alignment of anyone. A WRITE of a file that is open with `O_APPEND` goes to the end that the
//! file has on the host, where it cannot overwrite what the host has added.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, seek, syncfs,
};
use rustix::io::{Errno, retry_on_intr};

use super::super::Position;
use super::handles::Open;
use super::host::{LISTING, open_beneath};
use super::lock;
use super::nodes::Kind;
use super::reply::{Failure, Sink, Source};
use super::request::Request;
use super::server::Server;
use super::session::WRITE_BYTES_MAX;
use super::wire::{
    CopyFileRangeIn, FSYNC_DATA, FallocateIn, FsyncIn, InHeader, LseekIn, LseekOut, WriteIn,
    WriteOut,
};

/// `FUSE_WRITE_CACHE`: pages that were mapped, each at its own place whatever the file's flags.
const WRITE_CACHE: u32 = 1;

/// Bytes copied by one request, which keeps a worker busy: a guest that is told of fewer bytes
/// than it asked for asks again.
const COPY_BYTES_MAX: u64 = 16 << 20;

/// Where a WRITE's data begin in the request.
const DATA_AT: usize = size_of::<InHeader>() + size_of::<WriteIn>();

impl Server {
    pub(super) fn write(
        &self,
        request: &Request<'_>,
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        reply.require(size_of::<WriteOut>())?;
        let arguments: WriteIn = request.arguments()?;
        let WriteIn { offset, size, .. } = arguments;
        let data = request.bytes_after::<WriteIn>(0);
        if size > WRITE_BYTES_MAX || data < size as usize {
            return Err(Errno::INVAL.into());
        }
        let end = within_files(offset, size.into())?;
        let node = request.header.nodeid;
        let open = self.open_file_of(node, arguments.fh)?;
        self.reserve.take_for_write(&open.fd, offset, size.into())?;
        let flags = OFlags::from_bits_retain(arguments.flags);
        let appended = flags.contains(OFlags::APPEND) && arguments.write_flags & WRITE_CACHE == 0;
        let to = if appended {
            Position::End
        } else {
            Position::At(offset)
        };
        let written = write_all(source, &open, to, size as usize)?;
        if flags.contains(OFlags::SYNC) {
            fsync(&open.fd)?;
        } else if flags.contains(OFlags::DSYNC) {
            fdatasync(&open.fd)?;
        }
        lock(&self.freshness).wrote(node, end);
        reply.put_object(&WriteOut {
            // At most `size`.
            size: written as u32,
            padding: 0,
        })
    }

    /// FSYNC, FSYNCDIR.
    pub(super) fn fsync(&self, request: &Request<'_>) -> Result<(), Failure> {
        let FsyncIn {
            fh, fsync_flags, ..
        } = request.arguments()?;
        let open = lock(&self.handles).get(fh, request.header.nodeid)?;
        if fsync_flags & FSYNC_DATA != 0 {
            retry_on_intr(|| fdatasync(&open.fd))?;
        } else {
            retry_on_intr(|| fsync(&open.fd))?;
        }
        Ok(())
    }

    /// All of the file system that the share's root is on; those mounted below it are not.
    pub(super) fn syncfs(&self) -> Result<(), Failure> {
        let root = open_beneath(self.tree.root(), b".", LISTING)?;
        Ok(retry_on_intr(|| syncfs(&root))?)
    }

    pub(super) fn fallocate(&self, request: &Request<'_>) -> Result<(), Failure> {
        let arguments: FallocateIn = request.arguments()?;
        let FallocateIn { offset, length, .. } = arguments;
        let mode = FallocateFlags::from_bits_retain(arguments.mode);
        let allowed =
            FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE;
        if !allowed.contains(mode) {
            return Err(Errno::OPNOTSUPP.into());
        }
        let end = within_files(offset, length)?;
        let node = request.header.nodeid;
        let open = self.open_file_of(node, arguments.fh)?;
        self.reserve.take_for_fallocate(&open.fd, mode, length)?;
        retry_on_intr(|| fallocate(&open.fd, mode, offset, length))?;
        if !mode.contains(FallocateFlags::KEEP_SIZE) {
            lock(&self.freshness).wrote(node, end);
        }
        Ok(())
    }

    pub(super) fn lseek(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let LseekIn {
            fh, offset, whence, ..
        } = request.arguments()?;
        let from = match whence.cast_signed() {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL.into()),
        };
        let open = self.open_file_of(request.header.nodeid, fh)?;
        // Nothing else uses the descriptor's position.
        let offset = seek(&open.fd, from)?;
        reply.put_object(&LseekOut { offset })
    }

    pub(super) fn copy_file_range(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        reply.require(size_of::<WriteOut>())?;
        let arguments: CopyFileRangeIn = request.arguments()?;
        if arguments.flags != 0 {
            return Err(Errno::INVAL.into());
        }
        let (mut off_in, mut off_out) = (arguments.off_in, arguments.off_out);
        let bytes = arguments.len.min(COPY_BYTES_MAX);
        within_files(off_in, bytes)?;
        within_files(off_out, bytes)?;
        let from = self.open_file_of(request.header.nodeid, arguments.fh_in)?;
        let to = self.open_file_of(arguments.nodeid_out, arguments.fh_out)?;
        self.reserve.take_for_write(&to.fd, off_out, bytes)?;
        // At most `COPY_BYTES_MAX`, also on narrower hosts.
        let wanted = bytes as usize;
        let copied = copy_file_range(
            &from.fd,
            Some(&mut off_in),
            &to.fd,
            Some(&mut off_out),
            wanted,
        )?;
        lock(&self.freshness).wrote(arguments.nodeid_out, off_out);
        reply.put_object(&WriteOut {
            size: copied as u32,
            padding: 0,
        })
    }

    /// The open regular file that a request means.
    fn open_file_of(&self, node: u64, fh: u64) -> Result<Arc<Open>, Errno> {
        let open = lock(&self.handles).get(fh, node)?;
        if open.identity.kind != Kind::File {
            return Err(Errno::ISDIR);
        }
        Ok(open)
    }
}

/// Writes `size` bytes of data, or as many as there is room for.
fn write_all(
    source: &mut dyn Source,
    open: &Open,
    to: Position,
    size: usize,
) -> Result<usize, Errno> {
    let mut done: usize = 0;
    // Each round writes at least a byte, or ends.
    while done < size {
        let here = match to {
            Position::At(offset) => Position::At(offset.saturating_add(done as u64)),
            Position::End => Position::End,
        };
        let skip = DATA_AT.saturating_add(done);
        match source.write_to(skip, size.saturating_sub(done), open.fd.as_fd(), here) {
            Ok(0) => break,
            Ok(bytes) => done = done.saturating_add(bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    Ok(done)
}

/// Where a range ends.
///
/// # Errors
/// `EFBIG`: further than any file goes.
fn within_files(offset: u64, bytes: u64) -> Result<u64, Errno> {
    offset
        .checked_add(bytes)
        .filter(|end| i64::try_from(*end).is_ok())
        .ok_or(Errno::FBIG)
}
