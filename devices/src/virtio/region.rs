//! Files of the host as memory of the guest, which it can only read.
//!
//! A region is a range of this process' addresses that is reserved once and becomes one memory slot of the
//! machine. Pages of it are the page cache's of the files that are mapped there; all others are the host's
//! one page of zeros, so that whatever the guest touches in it is there. What is behind the end of a file is
//! not, nor what a file loses while it is mapped: a processor that touches such a page cannot go on.
//!
//! Nothing in this process may form a reference into a region, or look at it: a file that is cut short turns
//! that into `SIGBUS`.
#![expect(
    unsafe_code,
    reason = "maps files over addresses that were reserved for them"
)]

use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use anyhow::{Context, ensure};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::log;

/// What regions begin at and consist of: the huge pages of processors, so that a file's can be the guest's.
pub const ALIGNMENT: u64 = 2 << 20;

/// A page of the host's.
const PAGE_BYTES: u64 = 4096;

/// A reserved range of addresses. It stays reserved as long as this lives.
#[derive(Debug)]
pub struct Region {
    /// What was reserved: up to [`ALIGNMENT`] more than is used.
    reserved: *mut c_void,
    reserved_bytes: usize,
    start: *mut c_void,
    bytes: u64,
}

// SAFETY: the addresses belong to this value alone, which never looks at what is there; the system calls on
// them are for any thread.
unsafe impl Send for Region {}

// SAFETY: as above. What threads do to the same pages at once is done in some order.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `bytes`, a multiple of [`ALIGNMENT`]: all zeros, of which none takes memory.
    ///
    /// # Errors
    /// The host has not so many addresses left.
    pub fn reserve(bytes: u64) -> anyhow::Result<Self> {
        ensure!(
            bytes > 0 && bytes.is_multiple_of(ALIGNMENT),
            "cannot reserve {bytes} bytes of addresses: no multiple of 2 MiB"
        );
        let with_slack = bytes.checked_add(ALIGNMENT);
        let reserved_bytes = with_slack.and_then(|bytes| usize::try_from(bytes).ok());
        let what = || format!("cannot reserve {} MiB of addresses", bytes >> 20);
        let reserved_bytes = reserved_bytes.with_context(what)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at addresses that the kernel chooses.
        let reserved =
            unsafe { mmap_anonymous(std::ptr::null_mut(), reserved_bytes, ProtFlags::READ, flags) }
                .with_context(what)?;
        let start = reserved.map_addr(|address| address.next_multiple_of(ALIGNMENT as usize));
        Ok(Self {
            reserved,
            reserved_bytes,
            start,
            bytes,
        })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where in this process it is.
    pub fn addresses(&self) -> Range<u64> {
        let start = self.start.expose_provenance() as u64;
        start..start.saturating_add(self.bytes)
    }

    /// Puts pages of `file`, from byte `offset` on, at `range`: whole pages. What was there is gone; where
    /// the host does not map it, zeros are.
    ///
    /// # Errors
    /// `EINVAL`: the range is not of the region. Else as mmap(2).
    pub fn map(&self, range: Range<u64>, file: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        let (place, bytes) = self.place(&range)?;
        if !offset.is_multiple_of(PAGE_BYTES) {
            return Err(Errno::INVAL);
        }
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the range is of this region's own addresses, which nobody has a reference into.
        let mapped = unsafe { mmap(place, bytes, ProtFlags::READ, flags, file, offset) };
        match mapped {
            Ok(_) => Ok(()),
            Err(error) => {
                self.clear(range)?;
                Err(error)
            }
        }
    }

    /// Puts zeros at `range`: whole pages.
    ///
    /// # Errors
    /// `EINVAL`: the range is not of the region.
    pub fn clear(&self, range: Range<u64>) -> Result<(), Errno> {
        let (place, bytes) = self.place(&range)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: as in `map`.
        let cleared = unsafe { mmap_anonymous(place, bytes, ProtFlags::READ, flags) };
        if let Err(error) = cleared {
            // What mmap(2) has taken away and not replaced is a hole. The next mapping of this process that
            // falls into it, whatever it is of, is the guest's to read: other threads make them all the time,
            // and no system call that could close the hole needs less than the one that has failed. Nor may
            // the guest go on with zeros in place of all its files, which one large mapping might get. So
            // no error that is returned would come in time.
            log::tell(format_args!(
                "cannot keep the guest out of this process' memory ({error}), which ends for that"
            ));
            std::process::abort();
        }
        Ok(())
    }

    /// The address of whole pages of the region, and how many bytes they are.
    fn place(&self, range: &Range<u64>) -> Result<(*mut c_void, usize), Errno> {
        let is_within = range.start < range.end && range.end <= self.bytes;
        let is_whole = [range.start, range.end]
            .iter()
            .all(|byte| byte.is_multiple_of(PAGE_BYTES));
        if !is_within || !is_whole {
            return Err(Errno::INVAL);
        }
        let bytes = range.end.saturating_sub(range.start) as usize;
        Ok((self.start.wrapping_byte_add(range.start as usize), bytes))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: reserved by this value, which ends, and with it all that knows the addresses.
        let unmapped = unsafe { munmap(self.reserved, self.reserved_bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// What a processor would find; none where it cannot go on.
    fn seen(region: &Region, at: u64) -> Option<u8> {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut byte = [0];
        let read = memory.read_exact_at(&mut byte, region.addresses().start + at);
        read.ok().map(|()| byte[0])
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn it_begins_at_a_huge_page_and_is_zeros() {
        let region = Region::reserve(2 * ALIGNMENT).unwrap();
        let addresses = region.addresses();
        assert_eq!(addresses.start % ALIGNMENT, 0);
        assert_eq!(addresses.end - addresses.start, region.bytes());
        for at in [0, ALIGNMENT, 2 * ALIGNMENT - 1] {
            assert_eq!(seen(&region, at), Some(0));
        }
        for bytes in [0, 4096, ALIGNMENT + 4096, u64::MAX - 4095] {
            assert!(Region::reserve(bytes).is_err());
        }
    }

    #[test]
    fn pages_of_files_come_and_go() {
        let region = Region::reserve(ALIGNMENT).unwrap();
        let content = [vec![1; 4096], vec![2; 4096], vec![3; 4096]].concat();
        let file = file(&content);
        region.map(8192..16384, file.as_fd(), 4096).unwrap();
        let at = |page: u64| seen(&region, page * 4096);
        assert_eq!([0, 1, 2, 3, 4].map(at), [0, 0, 2, 3, 0].map(Some));
        region.map(12288..16384, file.as_fd(), 0).unwrap();
        assert_eq!([2, 3].map(at), [2, 1].map(Some));
        region.clear(8192..12288).unwrap();
        assert_eq!([2, 3].map(at), [0, 1].map(Some));
        region.clear(0..ALIGNMENT).unwrap();
        assert_eq!(at(3), Some(0));
    }

    #[test]
    fn what_a_file_has_not_is_a_fault_and_not_the_end() {
        let region = Region::reserve(ALIGNMENT).unwrap();
        let file = file(&[1; 8192]);
        region.map(0..16384, file.as_fd(), 0).unwrap();
        assert_eq!(seen(&region, 4096), Some(1));
        assert_eq!(seen(&region, 8192), None);
        file.set_len(4096).unwrap();
        assert_eq!(seen(&region, 4096), None);
    }

    #[test]
    fn nothing_outside_is_touched_and_a_failure_leaves_zeros() {
        let region = Region::reserve(ALIGNMENT).unwrap();
        let file = file(&[1; 8192]);
        for (start, end) in [
            (0, 0),
            (4096, 0),
            (1, 4096),
            (0, 4095),
            (0, ALIGNMENT + 4096),
            (ALIGNMENT, ALIGNMENT + 4096),
            (u64::MAX - 4095, 0),
        ] {
            let range = start..end;
            assert_eq!(region.clear(range.clone()), Err(Errno::INVAL), "{range:?}");
            let mapped = region.map(range.clone(), file.as_fd(), 0);
            assert_eq!(mapped, Err(Errno::INVAL), "{range:?}");
        }
        region.map(0..4096, file.as_fd(), 0).unwrap();
        assert_eq!(region.map(0..4096, file.as_fd(), 1), Err(Errno::INVAL));
        assert_eq!(seen(&region, 0), Some(1), "nothing was tried");
        let folder = File::open("/").unwrap();
        assert!(region.map(0..4096, folder.as_fd(), 0).is_err());
        assert_eq!(seen(&region, 0), Some(0));
    }
}
