//! A descriptor chain (virtio 1.2 §2.7), checked whole before any of it is used.
//!
//! A chain is taken apart into the segments its device may read and those it may write. Segments
//! are guest addresses, not host pointers: each access goes through guest memory again, so that
//! nothing here can outlive or leave it. One [`Chain`] is reused for every request of a queue.
//!
//! A buffer may also lie outside guest memory, where no device reaches: a program can have its kernel hand
//! over a page of a file that is mapped into the guest's addresses (`region`). That is nobody's mistake, so
//! it is the request's failure and not the end of its device.

use std::io;
use std::os::fd::BorrowedFd;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};
use zerocopy::{FromBytes, IntoBytes};

use super::{Fault, Position, iovec};
use crate::Memory;

/// A request: what the driver lets the device read, then what it lets the device write.
pub struct Chain {
    /// Device-readable buffers.
    pub readable: Buffers,
    /// Device-writable buffers.
    pub writable: Buffers,
    head: u16,
}

impl Chain {
    /// An empty chain, to be filled by [`super::Queue::pop`].
    pub fn new(memory: &Memory) -> Self {
        Self {
            readable: Buffers::new(memory),
            writable: Buffers::new(memory),
            head: 0,
        }
    }

    /// Index of the chain's first descriptor, by which the driver knows it.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Whether all of its buffers lie in guest memory. Of others the parts that do may be read and written.
    pub fn is_reachable(&self) -> bool {
        self.readable.is_reachable && self.writable.is_reachable
    }

    /// Replaces what this chain holds by `descriptors`.
    ///
    /// # Errors
    /// A chain that loops, does not end in its table, or has a readable buffer after a writable one.
    pub(super) fn fill(
        &mut self,
        descriptors: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(), Fault> {
        self.head = descriptors.head_index();
        self.readable.clear();
        self.writable.clear();
        let mut more = true;
        // Bounded by the queue's or the indirect table's size: the iterator counts down.
        for descriptor in descriptors {
            more = descriptor.has_next();
            let buffers = if descriptor.is_write_only() {
                &mut self.writable
            } else if self.writable.segments.is_empty() {
                &mut self.readable
            } else {
                return Err(Fault::Guest(
                    "a readable buffer follows a writable one (§2.7.4.2)",
                ));
            };
            buffers.add(descriptor.addr(), descriptor.len());
        }
        if more {
            return Err(Fault::Guest("a descriptor chain has no end"));
        }
        Ok(())
    }
}

/// The readable or the writable buffers of a chain, with a position.
pub struct Buffers {
    memory: Memory,
    segments: Vec<Segment>,
    /// The segment that the next byte comes from or goes to, and the offset in it.
    current: usize,
    offset: usize,
    remaining: usize,
    consumed: usize,
    /// Whether all of them lie in guest memory.
    is_reachable: bool,
}

#[derive(Clone, Copy)]
struct Segment {
    gpa: GuestAddress,
    bytes: usize,
}

impl Buffers {
    fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            segments: Vec::new(),
            current: 0,
            offset: 0,
            remaining: 0,
            consumed: 0,
            is_reachable: true,
        }
    }

    fn clear(&mut self) {
        self.segments.clear();
        (self.current, self.offset, self.remaining, self.consumed) = (0, 0, 0, 0);
        self.is_reachable = true;
    }

    fn add(&mut self, gpa: GuestAddress, bytes: u32) {
        let bytes = bytes as usize;
        if bytes == 0 {
            return;
        }
        self.is_reachable &= self.memory.check_range(gpa, bytes);
        // The iterator refuses chains above 4 GiB, so this sum cannot overflow.
        self.remaining = self.remaining.saturating_add(bytes);
        self.segments.push(Segment { gpa, bytes });
    }

    /// Where the buffers are: guest address and bytes of each, all of them.
    pub fn segments(&self) -> impl Iterator<Item = (GuestAddress, usize)> {
        let place = |segment: &Segment| (segment.gpa, segment.bytes);
        self.segments.iter().map(place)
    }

    /// Bytes that are left to read or write.
    pub fn remaining_bytes(&self) -> usize {
        self.remaining
    }

    /// Bytes that were read or written so far.
    pub fn consumed_bytes(&self) -> usize {
        self.consumed
    }

    /// Shortens what is left to `bytes`, for a device that must not use more of the chain.
    pub fn truncate(&mut self, bytes: usize) {
        self.remaining = self.remaining.min(bytes);
    }

    /// Goes back to the first byte, to write what could not be known before: a reply's header.
    pub fn rewind(&mut self) {
        self.remaining = self.remaining.saturating_add(self.consumed);
        (self.current, self.offset, self.consumed) = (0, 0, 0);
    }

    /// Leaves the next `bytes` as they are, less where the buffers end.
    pub fn skip(&mut self, bytes: usize) {
        self.advance(bytes.min(self.remaining));
    }

    /// Copies from the guest; less than `to` holds only where the buffers end.
    ///
    /// # Errors
    /// Some of them lie outside guest memory.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, Fault> {
        let mut done: usize = 0;
        while let Some((gpa, bytes)) = self.next(to.len().saturating_sub(done)) {
            let Some(part) = to.get_mut(done..).and_then(|rest| rest.get_mut(..bytes)) else {
                break;
            };
            self.memory
                .read_slice(part, gpa)
                .map_err(|_| Fault::Guest("a buffer lies outside guest memory"))?;
            self.advance(bytes);
            done = done.saturating_add(bytes);
        }
        Ok(done)
    }

    /// Copies to the guest; less than `from` holds only where the buffers end.
    ///
    /// # Errors
    /// Some of them lie outside guest memory.
    pub fn write(&mut self, from: &[u8]) -> Result<usize, Fault> {
        let mut done: usize = 0;
        while let Some((gpa, bytes)) = self.next(from.len().saturating_sub(done)) {
            let Some(part) = from.get(done..).and_then(|rest| rest.get(..bytes)) else {
                break;
            };
            self.memory
                .write_slice(part, gpa)
                .map_err(|_| Fault::Guest("a buffer lies outside guest memory"))?;
            self.advance(bytes);
            done = done.saturating_add(bytes);
        }
        Ok(done)
    }

    /// Reads one structure, copied before it is looked at.
    ///
    /// # Errors
    /// Fewer bytes are left than the structure has.
    pub fn read_object<T: FromBytes + IntoBytes>(&mut self) -> Result<T, Fault> {
        let mut object = T::new_zeroed();
        let bytes = object.as_mut_bytes();
        let wanted = bytes.len();
        if self.read(bytes)? < wanted {
            return Err(Fault::Guest("a request is shorter than its header"));
        }
        Ok(object)
    }

    /// Fills the buffers from a file at `offset`, straight into guest pages: at most
    /// `limit_bytes`, less at the end of the file or of the buffers.
    ///
    /// # Errors
    /// As `preadv(2)`.
    pub fn pread_from(
        &mut self,
        fd: BorrowedFd<'_>,
        offset: u64,
        limit_bytes: usize,
    ) -> io::Result<usize> {
        self.transfer(limit_bytes, |vectors, done| {
            let position = offset.saturating_add(done as u64);
            vectors.preadv(fd, position)
        })
    }

    /// Writes what is left of the buffers to a file, straight from guest pages: at most
    /// `limit_bytes`, less where the buffers end.
    ///
    /// # Errors
    /// As `pwritev2(2)`.
    pub fn pwrite_to(
        &mut self,
        fd: BorrowedFd<'_>,
        to: Position,
        limit_bytes: usize,
    ) -> io::Result<usize> {
        self.transfer(limit_bytes, |vectors, done| {
            let to = match to {
                Position::At(offset) => Position::At(offset.saturating_add(done as u64)),
                Position::End => Position::End,
            };
            vectors.pwritev(fd, to)
        })
    }

    /// Fills the buffers from a stream, straight into guest pages: at most `limit_bytes`.
    ///
    /// # Errors
    /// As `readv(2)`; `WouldBlock` only when nothing was read.
    pub fn read_from(&mut self, fd: BorrowedFd<'_>, limit_bytes: usize) -> io::Result<usize> {
        let mut vectors = self.vectors(limit_bytes);
        let bytes = vectors.readv(fd)?;
        self.advance(bytes);
        Ok(bytes)
    }

    /// Writes what is left of the buffers to a stream, straight from guest pages.
    ///
    /// # Errors
    /// As `writev(2)`; `WouldBlock` only when nothing was written.
    pub fn write_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut vectors = self.vectors(usize::MAX);
        let bytes = vectors.writev(fd)?;
        self.advance(bytes);
        Ok(bytes)
    }

    fn transfer(
        &mut self,
        limit_bytes: usize,
        mut call: impl FnMut(&mut iovec::Vectors<'_>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut done: usize = 0;
        // Each round moves at least a byte or ends, and a round is at most one full vector.
        while done < limit_bytes && self.remaining > 0 {
            let mut vectors = self.vectors(limit_bytes.saturating_sub(done));
            let bytes = match call(&mut vectors, done) {
                Ok(bytes) => bytes,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            if bytes == 0 {
                break;
            }
            self.advance(bytes);
            done = done.saturating_add(bytes);
        }
        Ok(done)
    }

    /// Host vectors over the next bytes, at most `limit_bytes` of them.
    pub(super) fn vectors(&self, limit_bytes: usize) -> iovec::Vectors<'_> {
        let mut vectors = iovec::Vectors::new(&self.memory);
        self.add_to(&mut vectors, limit_bytes);
        vectors
    }

    /// Adds the next bytes, at most `limit_bytes` of them; false when `vectors` has no room for all.
    pub(super) fn add_to(&self, vectors: &mut iovec::Vectors<'_>, limit_bytes: usize) -> bool {
        let mut left = self.remaining.min(limit_bytes);
        let mut skip = self.offset;
        for segment in self.segments.get(self.current..).unwrap_or_default() {
            if left == 0 {
                break;
            }
            let bytes = segment.bytes.saturating_sub(skip).min(left);
            if !vectors.add(offset_gpa(segment.gpa, skip), bytes) {
                return false;
            }
            left = left.saturating_sub(bytes);
            skip = 0;
        }
        true
    }

    /// Buffers that this consists of, empty ones aside.
    pub(super) fn pieces(&self) -> usize {
        self.segments.len()
    }

    /// The next piece that lies in one segment: at most `wanted` bytes; none when used up.
    fn next(&self, wanted: usize) -> Option<(GuestAddress, usize)> {
        let segment = self.segments.get(self.current)?;
        let bytes = segment
            .bytes
            .saturating_sub(self.offset)
            .min(wanted)
            .min(self.remaining);
        (bytes > 0).then(|| (offset_gpa(segment.gpa, self.offset), bytes))
    }

    /// Goes on by `bytes`, which are at most what is left.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.remaining = self.remaining.saturating_sub(bytes);
        self.consumed = self.consumed.saturating_add(bytes);
        self.offset = self.offset.saturating_add(bytes);
        while let Some(segment) = self.segments.get(self.current) {
            if self.offset < segment.bytes {
                break;
            }
            self.offset = self.offset.saturating_sub(segment.bytes);
            self.current = self.current.saturating_add(1);
        }
    }
}

/// `gpa + offset` within a segment. One that goes beyond the last address is not in guest memory.
fn offset_gpa(gpa: GuestAddress, offset: usize) -> GuestAddress {
    GuestAddress(gpa.0.saturating_add(offset as u64))
}

#[cfg(test)]
mod tests;
