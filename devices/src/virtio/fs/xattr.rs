//! Extended attributes: GETXATTR, LISTXATTR, SETXATTR, REMOVEXATTR.
//!
//! The guest's programs have those that begin with `user.`, which mean nothing to the host's
//! kernel. No others exist: with `security.` a guest would give a program of the host
//! capabilities, `trusted.` is the host's root's, and ACLs would name the host's users.

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::host::path_of;
use super::reply::{Failure, Sink, Source};
use super::request::Request;
use super::reserve::BLOCK_BYTES;
use super::server::Server;
use super::wire::{GetxattrIn, GetxattrOut, InHeader, SetxattrIn};

/// `XATTR_SIZE_MAX`, which is `XATTR_LIST_MAX` too.
const BYTES_MAX: usize = 64 << 10;

/// `XATTR_NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

const PREFIX: &[u8] = b"user.";

impl Server {
    pub(super) fn getxattr(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let GetxattrIn { size, .. } = request.arguments()?;
        let name = user_name(request.first_after::<GetxattrIn>()?)?;
        let file = self.reach(request.header.nodeid)?;
        let mut buffer = vec![0; BYTES_MAX];
        let bytes = getxattr(path_of(&file), name, &mut buffer[..])?;
        answer(buffer.get(..bytes).unwrap_or_default(), size, reply)
    }

    pub(super) fn listxattr(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let GetxattrIn { size, .. } = request.arguments()?;
        let file = self.reach(request.header.nodeid)?;
        let mut buffer = vec![0; BYTES_MAX];
        let bytes = listxattr(path_of(&file), &mut buffer[..])?;
        let all = buffer.get(..bytes).unwrap_or_default();
        let mut names = Vec::with_capacity(all.len());
        for name in all.split_inclusive(|byte| *byte == 0) {
            if name.starts_with(PREFIX) {
                names.extend_from_slice(name);
            }
        }
        answer(&names, size, reply)
    }

    pub(super) fn setxattr(
        &self,
        request: &Request<'_>,
        source: &mut dyn Source,
    ) -> Result<(), Failure> {
        let SetxattrIn { size, flags } = request.arguments()?;
        let name = request.first_after::<SetxattrIn>()?;
        // Up to the NUL, and with it.
        let before = name.len().saturating_add(1);
        let name = user_name(name)?;
        let size = size as usize;
        if size > BYTES_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let flags = XattrFlags::from_bits(flags)
            .filter(|flags| (XattrFlags::CREATE | XattrFlags::REPLACE).contains(*flags))
            .ok_or(Errno::INVAL)?;
        let begin = size_of::<InHeader>()
            .saturating_add(size_of::<SetxattrIn>())
            .saturating_add(before);
        let mut value = vec![0; size];
        let given = request.bytes_after::<SetxattrIn>(before);
        if given < size || source.read(begin, &mut value)? < size {
            return Err(Errno::INVAL.into());
        }
        let file = self.reach(request.header.nodeid)?;
        let bytes = BLOCK_BYTES.saturating_add(size as u64);
        self.reserve.take(&file, bytes)?;
        Ok(setxattr(path_of(&file), name, &value, flags)?)
    }

    pub(super) fn removexattr(&self, request: &Request<'_>) -> Result<(), Failure> {
        let name = user_name(request.first_after::<()>()?)?;
        let file = self.reach(request.header.nodeid)?;
        Ok(removexattr(path_of(&file), name)?)
    }
}

/// Checks the name of an attribute.
fn user_name(name: &[u8]) -> Result<&[u8], Errno> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Errno::RANGE);
    }
    match name.strip_prefix(PREFIX) {
        // As `xattr_resolve_name` has it.
        Some([]) => Err(Errno::INVAL),
        Some(_) => Ok(name),
        None => Err(Errno::OPNOTSUPP),
    }
}

/// Replies with a value, or with its size where that is all that is asked for.
pub fn answer(value: &[u8], room: u32, reply: &mut dyn Sink) -> Result<(), Failure> {
    if room == 0 {
        return reply.put_object(&GetxattrOut {
            // At most `BYTES_MAX`.
            size: value.len() as u32,
            padding: 0,
        });
    }
    if value.len() > room as usize {
        return Err(Errno::RANGE.into());
    }
    reply.require(value.len())?;
    Ok(reply.put(value)?)
}
