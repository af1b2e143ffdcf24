//! Pages of files that were only read, given back to the page cache: they return from there when
//! they are read again.
#![expect(
    unsafe_code,
    reason = "madvise takes raw pointers, into guest memory among others"
)]

use std::fs;
use std::ops::Range;

use anyhow::Context;
use rustix::mm::{Advice, madvise};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

use super::PAGE_BYTES;
use super::pagemap::Pagemap;

/// What the kernel tells of each mapping of a process.
const MAPS: &str = "/proc/self/maps";

/// Gives back what is still the file's in `mapped`, ranges of guest memory that
/// [`super::map_file`] made.
///
/// The guest must not run meanwhile: what it writes between the look at a page and the return
/// would be lost.
///
/// # Errors
/// The host does not tell which pages these are.
pub fn give_back(memory: &GuestMemoryMmap, mapped: &[Range<u64>]) -> anyhow::Result<()> {
    let pagemap = Pagemap::open()?;
    for range in mapped {
        let bytes = usize::try_from(range.end - range.start)?;
        let slice = memory
            .get_slice(GuestAddress(range.start), bytes)
            .context("cannot find the kernel's pages")?;
        let host = slice.ptr_guard_mut().as_ptr() as u64;
        give_back_clean(&pagemap, &(host..host + bytes as u64))?;
    }
    Ok(())
}

/// Gives back this program's own text and constants, and what its heap has to spare.
///
/// # Errors
/// As [`give_back`].
pub fn give_back_own() -> anyhow::Result<()> {
    // SAFETY: takes the allocator's own locks, and pages that nobody was given.
    unsafe { libc::malloc_trim(0) };
    let maps = fs::read_to_string(MAPS).with_context(|| format!("cannot read {MAPS}"))?;
    let pagemap = Pagemap::open()?;
    maps.lines()
        .filter_map(constant)
        .try_for_each(|range| give_back_clean(&pagemap, &range))
}

/// The addresses of a mapping of a file that nobody can write to.
fn constant(line: &str) -> Option<Range<u64>> {
    // "7f2300000000-7f2300001000 r-xp 00001000 fe:01 1234    /usr/bin/mvm"
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [addresses, "r-xp" | "r--p", _, _, inode, ..] = fields[..] else {
        return None;
    };
    let (start, end) = addresses.split_once('-')?;
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    (inode != "0").then_some(address(start)?..address(end)?)
}

/// Gives back what is a file's in a range of addresses, whole pages that nobody writes to.
fn give_back_clean(pagemap: &Pagemap, range: &Range<u64>) -> anyhow::Result<()> {
    let pages = pagemap.look(range)?;
    let clean: Vec<_> = pages.iter().map(|page| page.is_of_file()).collect();
    for run in runs(&clean) {
        let start = range.start + run.start as u64 * PAGE_BYTES;
        let bytes = run.len() * PAGE_BYTES as usize;
        // SAFETY: these pages are mapped, and read as the file has them before and after.
        unsafe { madvise(start as *mut _, bytes, Advice::LinuxDontNeed) }
            .context("cannot give pages back")?;
    }
    Ok(())
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

    fn clean(range: &Range<u64>) -> Vec<bool> {
        let pages = Pagemap::open().unwrap().look(range).unwrap();
        pages.iter().map(|page| page.is_of_file()).collect()
    }

    #[test]
    fn runs_are_those_of_true() {
        let found: Vec<_> = runs(&[true, false, false, true, true]).collect();
        assert_eq!(found, [0..1, 3..5]);
        assert_eq!(runs(&[]).count() + runs(&[false]).count(), 0);
    }

    #[test]
    fn constants_are_what_no_one_can_write() {
        let line = "7f23000-7f24000 r--p 00001000 fe:01 1234                 /usr/bin/mvm";
        assert_eq!(constant(line), Some(0x7f2_3000..0x7f2_4000));
        for (from, to) in [
            ("r--p", "rw-p"),
            ("r--p", "r--s"),
            ("1234", "0"),
            ("-", " "),
        ] {
            assert_eq!(constant(&line.replacen(from, to, 1)), None);
        }
    }

    #[test]
    fn this_program_goes_on_without_its_text() {
        let text = this_program_goes_on_without_its_text as fn() as usize as u64;
        let page = text / PAGE_BYTES * PAGE_BYTES;
        let page = page..page + PAGE_BYTES;
        assert_eq!(clean(&page), [true]);
        give_back_own().unwrap();
        assert!(CONSTANTS.iter().sum::<u64>() > 0);
    }

    static CONSTANTS: [u64; 1024] = [1; 1024];

    #[test]
    fn what_was_read_goes_and_what_was_written_stays() {
        let memory = allocate(1 << 20).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4 * 4096]).unwrap();
        map_file(&memory, 0x4000, 4 * 4096, &file, 0).unwrap();
        let byte = |gpa| memory.read_obj::<u8>(GuestAddress(gpa)).unwrap();
        let host = memory.get_host_address(GuestAddress(0x4000)).unwrap() as u64;
        let there = || clean(&(host..host + 4 * 4096));

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
