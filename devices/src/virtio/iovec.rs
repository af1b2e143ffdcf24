//! Vectored I/O between host descriptors and guest pages.
//!
//! The one place where a device hands guest memory to a system call. No Rust reference to guest
//! memory is ever formed, for the guest writes to it at any time: the kernel gets raw vectors.
#![expect(
    unsafe_code,
    reason = "readv and its like take raw pointers into guest memory"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::iovec;
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

/// Vectors of one call: 1 MiB in single pages, on the stack.
const VECTORS_MAX: usize = 257;

/// Where in a file something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// From this byte on.
    At(u64),
    /// After whatever the file's last byte is then.
    End,
}

/// Host vectors over guest memory, valid as long as the memory is borrowed.
pub struct Vectors<'a> {
    memory: &'a GuestMemoryMmap,
    entries: [iovec; VECTORS_MAX],
    used: usize,
}

impl<'a> Vectors<'a> {
    /// No vector yet.
    pub fn new(memory: &'a GuestMemoryMmap) -> Self {
        let empty = iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            memory,
            entries: [empty; VECTORS_MAX],
            used: 0,
        }
    }

    /// Adds `bytes` at `gpa`; false when there is no room left or the range is not guest memory,
    /// after which no more may be added.
    pub fn add(&mut self, gpa: GuestAddress, bytes: usize) -> bool {
        for slice in self.memory.get_slices(gpa, bytes) {
            let Ok(slice) = slice else { return false };
            let Some(entry) = self.entries.get_mut(self.used) else {
                return false;
            };
            // A mapping without a guard object: `GuestMemoryMmap` regions stay mapped while the
            // memory is borrowed, which `'a` makes sure of.
            *entry = iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            };
            self.used = self.used.saturating_add(1);
        }
        true
    }

    /// `preadv(2)` at `offset`.
    pub fn preadv(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the first `used` vectors lie in guest memory that is mapped while `self.memory`
        // is borrowed; the kernel checks them and fails with EFAULT where a page cannot be had.
        let bytes =
            unsafe { libc::preadv(fd.as_raw_fd(), self.entries.as_ptr(), self.count(), offset) };
        result(bytes)
    }

    /// `pwritev2(2)`.
    pub fn pwritev(&mut self, fd: BorrowedFd<'_>, to: Position) -> io::Result<usize> {
        let (offset, flags) = match to {
            Position::At(offset) => (offset, 0),
            Position::End => (0, libc::RWF_APPEND),
        };
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, vectors) = (fd.as_raw_fd(), self.entries.as_ptr());
        // SAFETY: as in `preadv`.
        result(unsafe { libc::pwritev2(fd, vectors, self.count(), offset, flags) })
    }

    /// `readv(2)`.
    pub fn readv(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: as in `preadv`.
        result(unsafe { libc::readv(fd.as_raw_fd(), self.entries.as_ptr(), self.count()) })
    }

    /// `writev(2)`.
    pub fn writev(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: as in `preadv`.
        result(unsafe { libc::writev(fd.as_raw_fd(), self.entries.as_ptr(), self.count()) })
    }

    fn count(&self) -> i32 {
        // At most `VECTORS_MAX`, which an `i32` holds.
        i32::try_from(self.used).unwrap_or(0)
    }
}

fn result(bytes: isize) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}
