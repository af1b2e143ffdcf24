//! Memory that is files of the host, one behind the other, which a guest reads and cannot write.
//!
//! Nobody but the guest ever looks at it: what of a file is cut off while it is mapped is an access that
//! KVM reports, where it would be `SIGBUS` here.

#![expect(unsafe_code, reason = "maps files over a range of its own")]

use std::ffi::c_void;
use std::fs::File;
use std::ptr::{NonNull, null_mut};

use anyhow::{Context, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::PAGE_BYTES;

/// A range of this process' addresses. What no file is at is zero.
#[derive(Debug)]
pub struct Composed {
    host: NonNull<c_void>,
    bytes: u64,
}

// SAFETY: it is a range of addresses that nothing here reads or writes; `map` takes it alone.
unsafe impl Send for Composed {}
// SAFETY: as above.
unsafe impl Sync for Composed {}

impl Composed {
    /// A range of `bytes`, whole pages, with no file in it.
    ///
    /// # Errors
    /// The host has no room for it.
    pub fn reserve(bytes: u64) -> Result<Self> {
        let length = whole_pages(bytes)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses addresses that nothing is at.
        let host = unsafe { mmap_anonymous(null_mut(), length, ProtFlags::READ, flags) }
            .with_context(|| format!("cannot reserve {} MiB of addresses", bytes >> 20))?;
        let host = NonNull::new(host).context("the host mapped nothing")?;
        Ok(Self { host, bytes })
    }

    /// Has the first `bytes` of `file` be at `offset`, a whole page; what is left of the last page is
    /// zero.
    ///
    /// # Errors
    /// It does not fit, or cannot be mapped.
    pub fn map(&mut self, offset: u64, file: &File, bytes: u64) -> Result<()> {
        let pages = bytes.next_multiple_of(PAGE_BYTES);
        let end = offset.checked_add(pages);
        ensure!(
            offset.is_multiple_of(PAGE_BYTES) && end.is_some_and(|end| end <= self.bytes),
            "it lies outside"
        );
        let length = whole_pages(pages)?;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // An address alone: nothing is ever read through it.
        let at = self
            .host
            .as_ptr()
            .wrapping_byte_add(usize::try_from(offset)?);
        // SAFETY: the pages are this range's own, as was just seen, and nothing in this process reads
        // or writes them.
        unsafe { mmap(at, length, ProtFlags::READ, flags, file, 0) }.context("cannot map it")?;
        Ok(())
    }

    /// Where it is in this process.
    pub fn host(&self) -> u64 {
        self.host.as_ptr().expose_provenance() as u64
    }

    /// Its length.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        // SAFETY: the range is this value's own, and whoever gave it to a virtual machine keeps the
        // value as long as that runs.
        let unmapped = unsafe { munmap(self.host.as_ptr(), self.bytes as usize) };
        debug_assert!(unmapped.is_ok(), "a range of whole pages is unmapped");
    }
}

fn whole_pages(bytes: u64) -> Result<usize> {
    ensure!(
        bytes > 0 && bytes.is_multiple_of(PAGE_BYTES),
        "it is not of whole pages"
    );
    usize::try_from(bytes).context("it is larger than an address space")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// What the range holds, as the kernel tells it of another process.
    fn content(composed: &Composed, offset: u64, bytes: usize) -> Vec<u8> {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut content = vec![0; bytes];
        memory
            .read_exact_at(&mut content, composed.host() + offset)
            .unwrap();
        content
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn files_are_behind_each_other_and_zeros_around_them() {
        let mut composed = Composed::reserve(5 * 4096).unwrap();
        composed.map(4096, &file(&[1; 4097]), 4097).unwrap();
        composed.map(3 * 4096, &file(&[2; 5000]), 10).unwrap();
        assert_eq!(content(&composed, 0, 4096), [0; 4096]);
        assert_eq!(content(&composed, 4096, 4097), [1; 4097]);
        assert_eq!(content(&composed, 2 * 4096 + 1, 4095), [0; 4095]);
        assert_eq!(content(&composed, 3 * 4096, 4096), [2; 4096]);
        assert_eq!(content(&composed, 4 * 4096, 4096), [0; 4096]);
    }

    #[test]
    fn nothing_is_mapped_outside_or_at_a_broken_page() {
        let mut composed = Composed::reserve(2 * 4096).unwrap();
        let file = file(&[1; 4096]);
        for (offset, bytes) in [
            (8192, 1),
            (4096, 4097),
            (1, 1),
            (u64::MAX - 4095, 1),
            (0, 0),
        ] {
            assert!(
                composed.map(offset, &file, bytes).is_err(),
                "{offset} {bytes}"
            );
        }
        assert_eq!(content(&composed, 0, 8192), [0; 8192]);
        assert!(Composed::reserve(100).is_err());
        assert!(Composed::reserve(0).is_err());
    }
}
