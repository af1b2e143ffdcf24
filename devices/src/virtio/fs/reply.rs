//! A reply on its way to the guest, and the data that a request brings.
//!
//! The server writes a reply's body first and its header last, for only then are the length and
//! the error known. Where the bytes go is the [`Sink`]'s affair: guest pages in a device, a
//! vector in tests. Likewise a [`Source`] holds what is written to files, which is not copied.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use zerocopy::{Immutable, IntoBytes};

use super::super::{Fault, Position};
use super::wire::{DIRENT_ALIGN, Dirent, EntryOut, LISTING_END, OutHeader};

/// Takes one reply: the body in order, then the header that goes before it.
pub trait Sink {
    /// Bytes of body that still fit. Never more than a chain of buffers holds, so below 4 GiB.
    fn room(&self) -> usize;

    /// Appends bytes to the body, which fit.
    ///
    /// # Errors
    /// The guest's memory cannot be written.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault>;

    /// Writes bytes over those of the body from `at` on, which are there.
    ///
    /// # Errors
    /// The guest's memory cannot be written.
    fn put_over(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault>;

    /// Appends at most `limit_bytes` of a file to the body, from `offset` on. None is the end of
    /// the file, or of the room.
    ///
    /// # Errors
    /// As preadv(2).
    fn put_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit_bytes: usize,
    ) -> io::Result<usize>;

    /// Bytes of body so far.
    fn body_bytes(&self) -> usize;

    /// Puts the header before the body; the bytes of the whole reply, 0 when not even the header
    /// fits.
    ///
    /// # Errors
    /// The guest's memory cannot be written.
    fn finish(&mut self, header: &OutHeader) -> Result<usize, Fault>;
}

/// The whole request, of which the server has a copy of the beginning.
pub trait Source {
    /// Bytes of the request.
    fn total_bytes(&self) -> usize;

    /// Copies the request from byte `skip` on; less than `to` holds only where it ends.
    ///
    /// # Errors
    /// The guest's memory cannot be read.
    fn read(&mut self, skip: usize, to: &mut [u8]) -> Result<usize, Fault>;

    /// Writes at most `limit_bytes` of the request, from byte `skip` on, to a file.
    ///
    /// # Errors
    /// As pwritev2(2).
    fn write_to(
        &mut self,
        skip: usize,
        limit_bytes: usize,
        file: BorrowedFd<'_>,
        to: Position,
    ) -> io::Result<usize>;
}

impl dyn Sink + '_ {
    /// Appends a structure to the body.
    ///
    /// # Errors
    /// `EINVAL`: the guest left no room for it.
    pub fn put_object<T: IntoBytes + Immutable>(&mut self, object: &T) -> Result<(), Failure> {
        self.require(size_of::<T>())?;
        Ok(self.put(object.as_bytes())?)
    }

    /// Appends an entry of a listing, of which there are at most `limit_bytes`; none when it does not
    /// fit.
    ///
    /// # Errors
    /// The guest's memory cannot be written.
    pub fn put_listed(
        &mut self,
        entry: &Listed<'_>,
        limit_bytes: usize,
    ) -> Result<Option<Last>, Fault> {
        if entry.bytes() > limit_bytes.saturating_sub(self.body_bytes()) {
            return Ok(None);
        }
        let header = Dirent {
            ino: entry.ino,
            off: entry.next,
            namelen: entry.name.len() as u32,
            // `DT_*` are the type bits of a mode (`IFTODT`).
            kind: (entry.mode & 0o170_000) >> 12,
        };
        if let Some(looked_up) = entry.looked_up {
            self.put(looked_up.as_bytes())?;
        }
        let last = Last {
            off_at: (self.body_bytes()).saturating_add(offset_of!(Dirent, off)),
        };
        self.put(header.as_bytes())?;
        self.put(entry.name)?;
        let padding = [0; DIRENT_ALIGN];
        let gap = entry.name.len().wrapping_neg() % DIRENT_ALIGN;
        self.put(padding.get(..gap).unwrap_or_default())?;
        Ok(Some(last))
    }

    /// Says of the entry that was put last that no other follows ([`LISTING_END`]).
    ///
    /// # Errors
    /// The guest's memory cannot be written.
    pub fn end_listing(&mut self, last: Last) -> Result<(), Fault> {
        self.put_over(last.off_at, LISTING_END.as_bytes())
    }

    /// Refuses to go on where the guest left no room for `bytes`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn require(&self, bytes: usize) -> Result<(), Failure> {
        if self.room() < bytes {
            return Err(Errno::INVAL.into());
        }
        Ok(())
    }
}

/// Where the body has the entry that was put last.
#[derive(Clone, Copy)]
pub struct Last {
    /// Where its `off` is.
    off_at: usize,
}

/// An entry of a listing.
pub struct Listed<'a> {
    /// With READDIRPLUS, the node.
    pub looked_up: Option<&'a EntryOut>,
    /// Its name, at most `NAME_MAX` bytes.
    pub name: &'a [u8],
    /// Its inode number.
    pub ino: u64,
    /// Its type, in the bits of a mode; 0 where it is unknown.
    pub mode: u32,
    /// Where the listing goes on.
    pub next: u64,
}

impl Listed<'_> {
    /// Bytes that it takes in a reply.
    pub fn bytes(&self) -> usize {
        let looked_up = self.looked_up.map_or(0, |_| size_of::<EntryOut>());
        let name = self.name.len().next_multiple_of(DIRENT_ALIGN);
        looked_up
            .saturating_add(size_of::<Dirent>())
            .saturating_add(name)
    }
}

/// Why a request was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The guest is told why.
    Refused(Errno),
    /// The guest can be told nothing.
    Broken(Fault),
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}
