//! Pages of the kernel's file that the guest has only read, given back to the page cache.
#![expect(
    unsafe_code,
    reason = "madvise takes raw pointers into guest memory, and changes what is there"
)]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use rustix::mm::{Advice, madvise};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

use super::PAGE_BYTES;

/// What the kernel tells of each page of a process (Linux' `Documentation/admin-guide/mm/pagemap.rst`).
const PAGEMAP: &str = "/proc/self/pagemap";

/// The page is there, and it is a file's: not a copy that was made at its first write.
const PRESENT_OF_FILE: u64 = 1 << 63 | 1 << 61;

/// Gives back the pages of `mapped`, ranges of guest memory that [`super::map_file`] made, which are
/// still those of the file; the guest finds them there when it reads them again.
///
/// The guest must not run meanwhile: what it writes between the look at a page and the return
/// would be lost.
///
/// # Errors
/// The host does not tell which these are.
pub fn give_back(memory: &GuestMemoryMmap, mapped: &[Range<u64>]) -> anyhow::Result<()> {
    let pagemap = File::open(PAGEMAP).with_context(|| format!("cannot open {PAGEMAP}"))?;
    for range in mapped {
        let bytes = usize::try_from(range.end - range.start)?;
        let slice = memory
            .get_slice(GuestAddress(range.start), bytes)
            .context("cannot find the kernel's pages")?;
        let host = slice.ptr_guard_mut();
        let first = host.as_ptr() as u64 / PAGE_BYTES;
        for run in runs(&entries(&pagemap, first, bytes)?) {
            let start = host.as_ptr().wrapping_add(run.start * PAGE_BYTES as usize);
            // SAFETY: the run lies in guest memory, which is mapped while `memory` is borrowed, and
            // of which no reference exists. What it reads as is the file's before and after.
            unsafe {
                madvise(
                    start.cast(),
                    run.len() * PAGE_BYTES as usize,
                    Advice::LinuxDontNeed,
                )
            }
            .context("cannot give the kernel's pages back")?;
        }
    }
    Ok(())
}

/// Whether each page of `bytes` from page `first` of this process is there and a file's.
fn entries(pagemap: &File, first: u64, bytes: usize) -> anyhow::Result<Vec<bool>> {
    let mut entries = vec![0; bytes / PAGE_BYTES as usize * size_of::<u64>()];
    pagemap
        .read_exact_at(&mut entries, first * size_of::<u64>() as u64)
        .with_context(|| format!("cannot read {PAGEMAP}"))?;
    let (entries, _) = entries.as_chunks();
    Ok(entries
        .iter()
        .map(|entry| u64::from_ne_bytes(*entry) & PRESENT_OF_FILE == PRESENT_OF_FILE)
        .collect())
}

/// Where `true` follows on `true`.
fn runs(pages: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    pages
        .chunk_by(|page, next| page == next)
        .filter_map(move |run| {
            let range = start..start + run.len();
            start = range.end;
            run[0].then_some(range)
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::Bytes;

    use super::super::{allocate, map_file};
    use super::*;

    #[test]
    fn runs_are_those_of_true() {
        let found: Vec<_> = runs(&[true, false, false, true, true]).collect();
        assert_eq!(found, [0..1, 3..5]);
        assert_eq!(runs(&[]).count() + runs(&[false]).count(), 0);
    }

    #[test]
    fn what_was_read_goes_and_what_was_written_stays() {
        let memory = allocate(1 << 20).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4 * 4096]).unwrap();
        map_file(&memory, 0x4000, 4 * 4096, &file, 0).unwrap();
        let byte = |gpa| memory.read_obj::<u8>(GuestAddress(gpa)).unwrap();
        let pagemap = File::open(PAGEMAP).unwrap();
        let first = memory.get_host_address(GuestAddress(0x4000)).unwrap() as u64 / PAGE_BYTES;
        let there = || entries(&pagemap, first, 4 * 4096).unwrap();

        memory.write_obj(9u8, GuestAddress(0x5000)).unwrap();
        assert_eq!([byte(0x4000), byte(0x5000), byte(0x6000)], [7, 9, 7]);
        let [first_page, written, read, _] = there()[..] else {
            panic!("four pages");
        };
        assert!(first_page && !written && read);
        let mapped = 0x4000..0x8000;
        give_back(&memory, std::slice::from_ref(&mapped)).unwrap();
        assert_eq!(there(), [false; 4]);
        assert_eq!([byte(0x4000), byte(0x5000), byte(0x6000)], [7, 9, 7]);
    }
}
