//! Pages that hold one byte all over, given back: the guest gets others when it comes to them.
//!
//! Zeroes are what the host gives anyway, but where a file is mapped: there it would give the file's bytes,
//! so what the guest has made of those is left alone. [`POISON`] is what Linux writes to what only its boot needed,
//! and gaps of its image, before it frees them; and what it fills the room with where it will put
//! programs of its own (BPF), an instruction that stops whoever strays there. Of such pages one is as
//! good as all.
#![expect(unsafe_code, reason = "reads guest memory word by word")]

use std::fs::File;
use std::io::Write;
use std::ops::Range;

use anyhow::Context;
use devices::Memory;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::Advice;
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

use super::huge::{BLOCKS_MAX, HUGE_PAGE_BYTES};
use super::pagemap::Pagemap;
use super::{PAGE_BYTES, advise, map_file};

/// From so many pages on no other block is looked at: 64 MiB. The guest stands still meanwhile.
const PAGES_MAX: usize = 1 << 14;

/// `POISON_FREE_INITMEM` of Linux (`include/linux/poison.h`), which is also the processor's `int3`.
const POISON: u8 = 0xcc;

/// The memory that stands for all that is poisoned, and the least that is worth a mapping of its own.
const POISONED_MAX: usize = 64 << 10;
const POISONED_MIN: usize = 16 << 10;

/// Mappings for what is poisoned, at most: a process has 65,530, and each costs the host some memory.
const MAPPINGS_MAX: usize = 512;

/// Pages of guest memory that are there and no file's.
pub struct Touched<'a> {
    memory: &'a Memory,
    /// Where they may be copies of a file's.
    mapped: &'a [Range<u64>],
    /// Their addresses in the guest, in order.
    pages: Vec<u64>,
}

impl<'a> Touched<'a> {
    /// The first of them in `memory`, of which `mapped` are the ranges that [`map_file`] made.
    ///
    /// # Errors
    /// The host does not tell which pages are there.
    pub fn of(memory: &'a Memory, mapped: &'a [Range<u64>]) -> anyhow::Result<Self> {
        let pagemap = Pagemap::open()?;
        let mut pages = Vec::new();
        'all: for region in memory.iter() {
            for offset in (0..region.len()).step_by(HUGE_PAGE_BYTES as usize) {
                let host = region.as_ptr() as u64 + offset;
                let bytes = HUGE_PAGE_BYTES.min(region.len() - offset);
                let looked = pagemap.look(&(host..host + bytes))?;
                let gpas = (region.start_addr().0 + offset..).step_by(PAGE_BYTES as usize);
                let of_guest = gpas
                    .zip(looked)
                    .filter(|(_, page)| page.is_present() && !page.is_of_file());
                pages.extend(of_guest.map(|(gpa, _)| gpa));
                if pages.len() >= PAGES_MAX {
                    break 'all;
                }
            }
        }
        Ok(Self {
            memory,
            mapped,
            pages,
        })
    }

    /// How many they are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Has the host not gather those to huge pages that lie in blocks of which they are a part: it would
    /// fill the rest with zeroes.
    ///
    /// # Errors
    /// The host does not know the advice.
    pub fn keep_sparse_small(&self) -> anyhow::Result<()> {
        let sparse = self.blocks().filter(|pages| !is_whole(pages)).map(block);
        // The last block of a region may be less than a huge page.
        let sparse = sparse.filter(|block| {
            let start = GuestAddress(block.start);
            self.memory.check_range(start, HUGE_PAGE_BYTES as usize)
        });
        sparse
            .take(BLOCKS_MAX)
            .try_for_each(|block| advise(self.memory, block, Advice::LinuxNoHugepage))
    }

    /// Gives back those that are zeroes alone. Where all of a block is there it may be a huge page, of which
    /// the guest would have to find the rest anew, page by page: there `least` of them are worth it.
    ///
    /// Nobody may write to guest memory meanwhile, neither the guest nor a device: what is written
    /// between the look at a page and its return would be lost.
    ///
    /// # Errors
    /// The host does not take them.
    pub fn give_back_cleared(&self, least: usize) -> anyhow::Result<()> {
        for pages in self.blocks() {
            let mut cleared = self.filled(pages, 0);
            cleared.retain(|gpa| !self.mapped.iter().any(|range| range.contains(gpa)));
            if is_whole(pages) && cleared.len() < least {
                continue;
            }
            for run in runs(&cleared) {
                advise(self.memory, run, Advice::LinuxDontNeed)?;
            }
        }
        Ok(())
    }

    /// Does that, and has those that are [`POISON`] alone be the same few pages, each until it is written to.
    ///
    /// # Errors
    /// As [`Self::give_back_cleared`], and no less may anybody write meanwhile; or the host has no memory.
    pub fn give_back_filled(&self, least: usize) -> anyhow::Result<()> {
        // Before any go: to look at one that has gone brings it back.
        let poisoned = self.filled(&self.pages, POISON);
        self.give_back_cleared(least)?;
        let pieces = runs(&poisoned)
            .flat_map(pieces)
            .filter(|piece| piece.end - piece.start >= POISONED_MIN as u64);
        let pieces: Vec<_> = pieces.take(MAPPINGS_MAX).collect();
        if pieces.is_empty() {
            return Ok(());
        }
        let poison = poison().context("cannot make memory to share")?;
        pieces.into_iter().try_for_each(|piece| {
            let bytes = piece.end - piece.start;
            map_file(self.memory, piece.start, bytes, &poison, 0)
        })
    }

    /// The pages by the huge page of which they may be parts.
    fn blocks(&self) -> impl Iterator<Item = &[u64]> {
        let block = |gpa: &u64| gpa / HUGE_PAGE_BYTES;
        self.pages
            .chunk_by(move |gpa, next| block(gpa) == block(next))
    }

    /// Those of `pages` that hold nothing but that byte.
    fn filled(&self, pages: &[u64], byte: u8) -> Vec<u64> {
        let is_filled = |gpa: &&u64| is_filled(self.memory, **gpa, byte);
        pages.iter().filter(is_filled).copied().collect()
    }
}

fn is_whole(pages: &[u64]) -> bool {
    pages.len() as u64 == HUGE_PAGE_BYTES / PAGE_BYTES
}

/// The huge page that the first of some pages is a part of.
fn block(pages: &[u64]) -> Range<u64> {
    let start = pages[0] / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    start..start + HUGE_PAGE_BYTES
}

/// What is side by side, as addresses of the guest.
fn runs(pages: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let runs = pages.chunk_by(|gpa, next| gpa + PAGE_BYTES == *next);
    runs.map(|run| run[0]..run[0] + run.len() as u64 * PAGE_BYTES)
}

/// A range in pieces that [`poison`] can stand for.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range
        .step_by(POISONED_MAX)
        .map(move |start| start..end.min(start + POISONED_MAX as u64))
}

/// A file in memory that is [`POISON`] all over.
fn poison() -> anyhow::Result<File> {
    let mut file = File::from(memfd_create(c"poison", MemfdFlags::CLOEXEC)?);
    file.write_all(&vec![POISON; POISONED_MAX])?;
    Ok(file)
}

/// Whether the page of guest memory at this address of the guest holds nothing but that byte.
fn is_filled(memory: &GuestMemoryMmap, gpa: u64, byte: u8) -> bool {
    /// Words that are looked at as one: the guest waits meanwhile, and a branch costs as much as a word.
    const GROUP: usize = 16;
    let Ok(host) = memory.get_host_address(GuestAddress(gpa)) else {
        return false;
    };
    let words = PAGE_BYTES as usize / size_of::<u64>();
    let start: *const u64 = host.cast_const().cast();
    let pattern = u64::from_ne_bytes([byte; size_of::<u64>()]);
    // SAFETY: the page is whole and mapped as long as the guest's memory is, and it is read as what somebody
    // else may write to.
    let word = |index| unsafe { start.wrapping_add(index).read_volatile() };
    let differs =
        |first| (first..first + GROUP).fold(0, |bits, index| bits | word(index) ^ pattern);
    (0..words).step_by(GROUP).all(|first| differs(first) == 0)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::super::{allocate, allocate_small, split_sparse};
    use super::*;

    fn touched(memory: &Memory) -> Vec<u64> {
        Touched::of(memory, &[]).unwrap().pages
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
        let pages = Touched::of(&memory, &[]).unwrap();
        pages.give_back_cleared(1).unwrap();
        assert_eq!(touched(&memory), [0x1000, 0x5000]);
        for (gpa, byte) in written {
            assert_eq!(memory.read_obj::<u8>(GuestAddress(gpa)).unwrap(), byte);
        }
    }

    #[test]
    fn of_a_huge_page_what_was_written_stays() {
        let memory = allocate(8 << 20).unwrap();
        memory.write_obj(7u8, GuestAddress(5 << 20)).unwrap();
        let pages = Touched::of(&memory, &[]).unwrap();
        pages.give_back_cleared(256).unwrap();
        split_sparse(&memory).unwrap();
        assert_eq!(touched(&memory), [5 << 20]);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(5 << 20)).unwrap(), 7);
    }

    #[test]
    fn a_whole_block_stays_whole_for_less_than_is_worth_it() {
        let memory = allocate_small(4 << 20).unwrap();
        for page in 0..512 {
            let byte = u8::from(page >= 64);
            let gpa = GuestAddress(page * PAGE_BYTES);
            memory.write_obj(byte, gpa).unwrap();
        }
        let pages = Touched::of(&memory, &[]).unwrap();
        pages.give_back_cleared(65).unwrap();
        assert_eq!(touched(&memory).len(), 512);
        pages.give_back_cleared(64).unwrap();
        assert_eq!(touched(&memory).len(), 448);
    }

    #[test]
    fn what_the_guest_has_made_of_a_file_stays() {
        let memory = allocate_small(4 << 20).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3 << 12]).unwrap();
        map_file(&memory, 0x10_0000, 3 << 12, &file, 0).unwrap();
        for (gpa, byte) in [(0x10_0000, 0), (0x10_1000, POISON), (0x10_3000, 0)] {
            let page = [byte; PAGE_BYTES as usize];
            memory.write_slice(&page, GuestAddress(gpa)).unwrap();
        }
        let mapped = 0x10_0000..0x10_3000;
        let pages = Touched::of(&memory, std::slice::from_ref(&mapped)).unwrap();
        pages.give_back_filled(1).unwrap();
        assert_eq!(touched(&memory), [0x10_0000, 0x10_1000]);
        let seen = |gpa| memory.read_obj::<u8>(GuestAddress(gpa)).unwrap();
        let all = [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000].map(seen);
        assert_eq!(all, [0, POISON, 7, 0]);
    }

    #[test]
    fn the_end_of_odd_memory_is_left_out() {
        let memory = allocate_small((4 << 20) + PAGE_BYTES).unwrap();
        for gpa in [0, 4 << 20] {
            memory.write_obj(1u8, GuestAddress(gpa)).unwrap();
        }
        let pages = Touched::of(&memory, &[]).unwrap();
        pages.keep_sparse_small().unwrap();
        pages.give_back_filled(1).unwrap();
        assert_eq!(touched(&memory), [0, 4 << 20]);
    }

    #[test]
    fn what_is_poisoned_is_shared_until_it_is_written_to() {
        let memory = allocate_small(4 << 20).unwrap();
        let fill = |gpa, bytes: usize| {
            let poison = vec![POISON; bytes];
            memory.write_slice(&poison, GuestAddress(gpa)).unwrap();
        };
        // More than the file, less than a mapping is worth, and a page that ends otherwise.
        fill(0x1000, POISONED_MAX + POISONED_MIN + 1);
        fill(0x10_0000, POISONED_MIN - 0x1000);
        fill(0x20_0000, POISONED_MIN - 1);
        memory.write_obj(1u8, GuestAddress(0x3f_f000)).unwrap();
        Touched::of(&memory, &[])
            .unwrap()
            .give_back_filled(1)
            .unwrap();
        let mut left = vec![0x1000 + (POISONED_MAX + POISONED_MIN) as u64];
        left.extend([0x10_0000, 0x10_1000, 0x10_2000]);
        left.extend([0x20_0000, 0x20_1000, 0x20_2000, 0x20_3000, 0x3f_f000]);
        assert_eq!(touched(&memory), left);
        memory.write_obj(7u8, GuestAddress(0x2001)).unwrap();
        let mut seen = vec![0; POISONED_MAX + POISONED_MIN + 2];
        memory.read_slice(&mut seen, GuestAddress(0x1000)).unwrap();
        let mut expected = vec![POISON; POISONED_MAX + POISONED_MIN + 1];
        expected.push(0);
        expected[0x1001] = 7;
        assert_eq!(seen, expected);
        assert_eq!(touched(&memory)[0], 0x2000);
    }

    #[test]
    fn a_guest_has_no_more_mappings_than_there_may_be() {
        let memory = allocate_small(32 << 20).unwrap();
        let poison = [POISON; POISONED_MIN];
        // Each beside one page that is not.
        let step = POISONED_MIN + 0x1000;
        for gpa in (0..32u64 << 20).step_by(step).take(MAPPINGS_MAX + 1) {
            memory.write_slice(&poison, GuestAddress(gpa)).unwrap();
        }
        Touched::of(&memory, &[])
            .unwrap()
            .give_back_filled(1)
            .unwrap();
        assert_eq!(touched(&memory).len(), POISONED_MIN / PAGE_BYTES as usize);
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
