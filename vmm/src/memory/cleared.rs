//! Pages that hold nothing but zeroes, given back: the guest gets another when it comes to one.
#![expect(
    unsafe_code,
    reason = "reads guest memory word by word; madvise takes raw pointers"
)]

use anyhow::Context;
use devices::Memory;
use rustix::mm::{Advice, madvise};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::PAGE_BYTES;
use super::huge::HUGE_PAGE_BYTES;
use super::pagemap::Pagemap;

/// Pages that are looked at, at most: 64 MiB. The guest stands still meanwhile.
const PAGES_MAX: usize = 1 << 14;

/// Pages of guest memory that are there and no file's.
pub struct Touched<'a> {
    /// Keeps them mapped.
    _memory: &'a Memory,
    /// Their addresses in this process, in order.
    pages: Vec<u64>,
}

impl<'a> Touched<'a> {
    /// The first of them in `memory`.
    ///
    /// # Errors
    /// The host does not tell which pages are there.
    pub fn of(memory: &'a Memory) -> anyhow::Result<Self> {
        let pagemap = Pagemap::open()?;
        let mut pages = Vec::new();
        'all: for region in memory.iter() {
            let start = region.as_ptr() as u64;
            let end = start + region.len();
            for block in (start..end).step_by(HUGE_PAGE_BYTES as usize) {
                let addresses = (block..).step_by(PAGE_BYTES as usize);
                let looked = pagemap.look(&(block..end.min(block + HUGE_PAGE_BYTES)))?;
                let of_guest = addresses
                    .zip(looked)
                    .filter(|(_, page)| page.is_present() && !page.is_of_file());
                pages.extend(of_guest.map(|(address, _)| address));
                if pages.len() >= PAGES_MAX {
                    break 'all;
                }
            }
        }
        pages.truncate(PAGES_MAX);
        Ok(Self {
            _memory: memory,
            pages,
        })
    }

    /// How many they are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Gives back those that are zeroes alone.
    ///
    /// Nobody may write to guest memory meanwhile, neither the guest nor a device: what is written
    /// between the look at a page and its return would be lost.
    ///
    /// # Errors
    /// The host does not take them.
    pub fn give_back_cleared(&self) -> anyhow::Result<()> {
        let block = |page: &u64| page / HUGE_PAGE_BYTES;
        let blocks = self.pages.chunk_by(|page, next| block(page) == block(next));
        blocks.map(cleared).try_for_each(|pages| give_back(&pages))
    }
}

/// Those of the pages of a block that are zeroes, if they are worth it: where all of a block is
/// there, it may be a huge page, of which the rest would have to be found anew by the guest, page
/// by page.
fn cleared(pages: &[u64]) -> Vec<u64> {
    let cleared: Vec<u64> = pages
        .iter()
        .copied()
        .filter(|page| is_zero(*page))
        .collect();
    let is_whole = pages.len() as u64 == HUGE_PAGE_BYTES / PAGE_BYTES;
    if is_whole && cleared.len() < pages.len() / 2 {
        return Vec::new();
    }
    cleared
}

fn give_back(cleared: &[u64]) -> anyhow::Result<()> {
    for run in cleared.chunk_by(|page, next| page + PAGE_BYTES == *next) {
        let bytes = run.len() * PAGE_BYTES as usize;
        // SAFETY: these pages are mapped guest memory, and read as zeroes before and after.
        unsafe { madvise(run[0] as *mut _, bytes, Advice::LinuxDontNeed) }
            .context("cannot give pages back")?;
    }
    Ok(())
}

/// Whether the page of guest memory at this address of the process is zeroes alone.
fn is_zero(page: u64) -> bool {
    /// Words that are looked at as one: the guest waits meanwhile, and a branch costs as much as a word.
    const GROUP: usize = 16;
    let words = PAGE_BYTES as usize / size_of::<u64>();
    let start = page as *const u64;
    // SAFETY: the page is mapped as long as the guest's memory is, and it is read as what somebody
    // else may write to.
    let word = |index| unsafe { start.wrapping_add(index).read_volatile() };
    (0..words)
        .step_by(GROUP)
        .all(|first| (first..first + GROUP).fold(0, |bits, index| bits | word(index)) == 0)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::super::{allocate, allocate_small, keep_sparse_small};
    use super::*;

    fn touched(memory: &Memory) -> Vec<u64> {
        let start = memory.get_host_address(GuestAddress(0)).unwrap() as u64;
        let pages = Touched::of(memory).unwrap().pages;
        pages.iter().map(|page| page - start).collect()
    }

    #[test]
    fn zeroes_go_and_all_else_stays() {
        let memory = allocate_small(4 << 20).unwrap();
        let written = [
            (0, 0u8),
            (0x1000, 1),
            (0x2000, 0),
            (0x3000, 0),
            (0x5fff, 255),
        ];
        for (gpa, byte) in written {
            memory.write_obj(byte, GuestAddress(gpa)).unwrap();
        }
        assert_eq!(touched(&memory), [0, 0x1000, 0x2000, 0x3000, 0x5000]);
        let pages = Touched::of(&memory).unwrap();
        pages.give_back_cleared().unwrap();
        assert_eq!(touched(&memory), [0x1000, 0x5000]);
        for (gpa, byte) in written {
            assert_eq!(memory.read_obj::<u8>(GuestAddress(gpa)).unwrap(), byte);
        }
    }

    #[test]
    fn of_a_huge_page_what_was_written_stays() {
        let memory = allocate(8 << 20).unwrap();
        memory.write_obj(7u8, GuestAddress(5 << 20)).unwrap();
        Touched::of(&memory).unwrap().give_back_cleared().unwrap();
        keep_sparse_small(&memory).unwrap();
        assert_eq!(touched(&memory), [5 << 20]);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(5 << 20)).unwrap(), 7);
    }

    #[test]
    fn no_more_is_looked_at_than_a_guest_can_wait_for() {
        let memory = allocate(80 << 20).unwrap();
        for page in 0..20 << 10 {
            let gpa = GuestAddress(page * PAGE_BYTES);
            memory.write_obj(0u8, gpa).unwrap();
        }
        assert_eq!(touched(&memory).len(), PAGES_MAX);
    }
}
