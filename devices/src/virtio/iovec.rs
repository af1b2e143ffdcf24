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
    /// Those over guest memory, between one for bytes of this process before and one behind them.
    entries: [iovec; VECTORS_MAX + 2],
    /// How many are over guest memory.
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
            entries: [empty; VECTORS_MAX + 2],
            used: 0,
        }
    }

    /// Adds `bytes` at `gpa`; false when there is no room left or the range is not guest memory,
    /// after which no more may be added.
    pub fn add(&mut self, gpa: GuestAddress, bytes: usize) -> bool {
        for slice in self.memory.get_slices(gpa, bytes) {
            let Ok(slice) = slice else { return false };
            if self.used == VECTORS_MAX {
                return false;
            }
            let next = self.used.saturating_add(1);
            let Some(entry) = self.entries.get_mut(next) else {
                return false;
            };
            // A mapping without a guard object: `GuestMemoryMmap` regions stay mapped while the
            // memory is borrowed, which `'a` makes sure of.
            *entry = iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            };
            self.used = next;
        }
        true
    }

    /// Bytes of guest memory that these are over.
    pub fn bytes(&self) -> usize {
        let vectors = self.entries.iter().skip(1).take(self.used);
        vectors.fold(0, |sum, vector| sum.saturating_add(vector.iov_len))
    }

    /// `preadv(2)` at `offset`.
    pub fn preadv(&mut self, fd: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the first `used` vectors lie in guest memory that is mapped while `self.memory`
        // is borrowed; the kernel checks them and fails with EFAULT where a page cannot be had.
        let bytes = unsafe { libc::preadv(fd.as_raw_fd(), self.first(), self.count(0), offset) };
        result(bytes)
    }

    /// `pwritev2(2)`.
    pub fn pwritev(&mut self, fd: BorrowedFd<'_>, to: Position) -> io::Result<usize> {
        let (offset, flags) = match to {
            Position::At(offset) => (offset, 0),
            Position::End => (0, libc::RWF_APPEND),
        };
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, vectors) = (fd.as_raw_fd(), self.first());
        // SAFETY: as in `preadv`.
        result(unsafe { libc::pwritev2(fd, vectors, self.count(0), offset, flags) })
    }

    /// `readv(2)`.
    pub fn readv(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: as in `preadv`.
        result(unsafe { libc::readv(fd.as_raw_fd(), self.first(), self.count(0)) })
    }

    /// `writev(2)`.
    pub fn writev(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: as in `preadv`.
        result(unsafe { libc::writev(fd.as_raw_fd(), self.first(), self.count(0)) })
    }

    /// `readv(2)` into guest memory, and what is left of it into `tail`.
    pub fn readv_with(&mut self, fd: BorrowedFd<'_>, tail: &mut [u8]) -> io::Result<usize> {
        let behind = self.used.saturating_add(1);
        if let Some(entry) = self.entries.get_mut(behind) {
            entry.iov_base = tail.as_mut_ptr().cast();
            entry.iov_len = tail.len();
        }
        // SAFETY: as in `preadv`, and the vector behind them covers `tail`, which is borrowed until
        // this returns.
        result(unsafe { libc::readv(fd.as_raw_fd(), self.first(), self.count(1)) })
    }

    /// `writev(2)` of `head`, and guest memory behind it.
    pub fn writev_with(&mut self, fd: BorrowedFd<'_>, head: &[u8]) -> io::Result<usize> {
        if let Some(entry) = self.entries.first_mut() {
            entry.iov_base = head.as_ptr().cast_mut().cast();
            entry.iov_len = head.len();
        }
        // SAFETY: as in `preadv`, and the vector before them covers `head`, which is borrowed until
        // this returns and only read.
        result(unsafe { libc::writev(fd.as_raw_fd(), self.entries.as_ptr(), self.count(1)) })
    }

    /// The first vector over guest memory.
    fn first(&self) -> *const iovec {
        self.entries.get(1..).unwrap_or_default().as_ptr()
    }

    /// Vectors over guest memory, and `own` more.
    fn count(&self, own: usize) -> i32 {
        // At most `VECTORS_MAX` + 1, which an `i32` holds, and which the array has behind `first`.
        i32::try_from(self.used.saturating_add(own)).unwrap_or(0)
    }
}

fn result(bytes: isize) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}
