//! An exchange: what is the same for every server, between a request's bytes and its reply's.
//!
//! Every request but those that have no reply is answered, however malformed it is, for a guest's
//! program waits for it uninterruptibly.

use rustix::io::Errno;

use super::super::Fault;
use super::counters::Counters;
use super::reply::{Failure, Sink, Source};
use super::request::Request;
use super::wire::{OutHeader, opcode};

/// What a share's workers have in common.
pub trait Serve: Send + Sync {
    /// Carries a request out. `request` holds its beginning, `source` has all of it.
    /// Returns the bytes of the reply: 0 for a request that has none.
    ///
    /// # Errors
    /// The guest took away the memory that the reply goes to, or that its data are in.
    fn handle(
        &self,
        request: &[u8],
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<usize, Fault>;

    /// Ends the session: the device was reset. A request that another worker still has finds no node.
    fn reset(&self);
}

/// Has `serve` carry a request out, and counts it and its time: what [`Serve::handle`] does.
///
/// # Errors
/// As [`Serve::handle`].
pub fn answer(
    counters: &Counters,
    request: &[u8],
    source: &mut dyn Source,
    reply: &mut dyn Sink,
    serve: impl FnOnce(&Request<'_>, &mut dyn Source, &mut dyn Sink) -> Result<(), Failure>,
) -> Result<usize, Fault> {
    counters.time(|| reply_to(counters, request, source, reply, serve))
}

fn reply_to(
    counters: &Counters,
    request: &[u8],
    source: &mut dyn Source,
    reply: &mut dyn Sink,
    serve: impl FnOnce(&Request<'_>, &mut dyn Source, &mut dyn Sink) -> Result<(), Failure>,
) -> Result<usize, Fault> {
    let (header, done) = match Request::new(request, source.total_bytes()) {
        Ok(request) => {
            counters.count_request(request.header.opcode);
            (request.header, serve(&request, source, reply))
        }
        Err((header, error)) => (header, Err(error.into())),
    };
    let no_reply = [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT];
    if no_reply.contains(&header.opcode) {
        return Ok(0);
    }
    let (error, body_bytes) = match done {
        Ok(()) => (0, reply.body_bytes()),
        Err(Failure::Refused(error)) => (error.raw_os_error().saturating_neg(), 0),
        Err(Failure::Broken(fault)) => return Err(fault),
    };
    let bytes = body_bytes.saturating_add(size_of::<OutHeader>());
    let replied = reply.finish(&OutHeader {
        len: u32::try_from(bytes).unwrap_or(u32::MAX),
        error,
        unique: header.unique,
    })?;
    counters.count_reply(replied);
    Ok(replied)
}

/// What a share that the guest only reads says to all else: that it is read-only, or that it does
/// not offer it, so that the guest asks once or not at all (extended attributes, holes, locks,
/// which are kept in the guest, FLUSH, ACCESS, STATX, a DAX window of what changes).
///
/// # Errors
/// `EROFS`, `ENOSYS`.
pub fn refuse_change(wanted: u32) -> Result<(), Failure> {
    match wanted {
        // Nothing of the guest's is ever unwritten.
        opcode::FSYNC | opcode::FSYNCDIR | opcode::SYNCFS => Ok(()),
        opcode::SETATTR
        | opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::LINK
        | opcode::WRITE
        | opcode::SETXATTR
        | opcode::REMOVEXATTR
        | opcode::CREATE
        | opcode::FALLOCATE
        | opcode::RENAME2
        | opcode::COPY_FILE_RANGE
        | opcode::TMPFILE => Err(Errno::ROFS.into()),
        _ => Err(Errno::NOSYS.into()),
    }
}
