//! Which bytes of a `vmlinux` Linux only reads, from the sections of its file.
//!
//! Three things are not as the segments say. A kernel that is built with return thunks lists each of
//! its returns in `.return_sites`, and rewrites them all for the processor that it finds: some ten
//! in each page of text. Any kernel rewrites the places that `.altinstructions` lists, in some of its
//! pages. And in the midst of what it writes to are parts that nobody does, text for its start and
//! tables, above all those for unwinding the stack (`.orc_unwind`), which may be larger than all
//! data. What is told here only chooses between two ways to load the same bytes, so that sections
//! that are missing or make no sense are no error.

use std::collections::BTreeSet;
use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::FileHeader;
use crate::memory::PAGE_BYTES;
use crate::window::Window;

/// `Elf64_Shdr`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SectionHeader {
    name: u32,
    kind: u32,
    flags: u64,
    addr: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    addralign: u64,
    entsize: u64,
}

/// `SHT_PROGBITS`.
const BYTES: u32 = 1;
/// `SHF_WRITE`, `SHF_ALLOC` and `SHF_EXECINSTR`.
const WRITE: u64 = 1;
const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;

/// Of a smaller part of writable memory less is won than a mapping of its own costs.
const PART_BYTES_MIN: u64 = 256 << 10;

/// Linux has about forty, a hundred with those of a debugger.
const SECTIONS_MAX: u16 = 256;

/// Names that are looked for have at most as many, with the NUL at their end.
const NAME_BYTES: usize = 32;

/// `s32`: where a return is, from here.
const SITE_BYTES: u64 = 4;

/// `struct alt_instr` since Linux 6.3; it begins with an `s32`: where the instruction is, from here.
const ALTERNATIVE_BYTES: u64 = 14;

/// Linux has some ten thousand.
const ALTERNATIVES_MAX: u64 = 1 << 18;

/// What the sections of a file say of it, in ranges of the file.
#[derive(Default)]
pub struct Sections {
    /// Text that will be rewritten in nearly each page; empty where that is not so, or not known.
    rewritten: Range<u64>,
    /// Pages of any text in which something will be rewritten, in order.
    patched: Vec<Range<u64>>,
    /// Parts of writable memory that are only read.
    constant: Vec<Range<u64>>,
}

impl Sections {
    /// Those of `file`.
    pub fn read(file: &Window, header: &FileHeader) -> Self {
        let Some(headers) = Headers::read(file, header) else {
            return Self::default();
        };
        Self {
            rewritten: headers.rewritten().unwrap_or_default(),
            patched: headers.patched().unwrap_or_default(),
            constant: headers.all.iter().filter_map(constant).collect(),
        }
    }

    /// The pages of a part of the file in which something will be rewritten, in order.
    pub fn patched(&self, part: &Range<u64>) -> impl Iterator<Item = &Range<u64>> {
        let is_within = |pages: &&Range<u64>| part.start <= pages.start && pages.end <= part.end;
        self.patched.iter().filter(is_within)
    }

    /// The parts of a segment that are only read, in order; `segment` is its range of the file.
    pub fn constant(&self, segment: &Range<u64>, is_writable: bool) -> Vec<Range<u64>> {
        let mut parts = if is_writable {
            let is_within =
                |part: &Range<u64>| segment.start <= part.start && part.end <= segment.end;
            let mut parts = self.constant.clone();
            parts.retain(is_within);
            parts
        } else {
            let within = |offset: u64| offset.clamp(segment.start, segment.end);
            let (from, to) = (within(self.rewritten.start), within(self.rewritten.end));
            vec![segment.start..from, to..segment.end]
        };
        parts.sort_by_key(|part| part.start);
        let mut end = segment.start;
        parts.retain(|part| {
            let is_next = end <= part.start && part.start < part.end;
            end = if is_next { part.end } else { end };
            is_next
        });
        parts
    }
}

fn constant(section: &SectionHeader) -> Option<Range<u64>> {
    let is_constant = section.flags & (WRITE | ALLOC) == ALLOC && section.kind == BYTES;
    (is_constant && section.size >= PART_BYTES_MIN).then_some(section.in_file()?)
}

/// The sections of a file.
struct Headers<'a> {
    file: &'a Window,
    all: Vec<SectionHeader>,
    /// Which of them has their names.
    names: usize,
}

impl<'a> Headers<'a> {
    fn read(file: &'a Window, header: &FileHeader) -> Option<Self> {
        let count = usize::from(header.shnum.min(SECTIONS_MAX));
        let mut all = vec![SectionHeader::new_zeroed(); count];
        file.read_at(all.as_mut_slice().as_mut_bytes(), header.shoff)
            .ok()?;
        let names = usize::from(header.shstrndx);
        Some(Self { file, all, names })
    }

    fn rewritten(&self) -> Option<Range<u64>> {
        let returns = self.find(b".return_sites\0")?;
        let text = self.find(b".text\0")?;
        let is_everywhere = returns.size / SITE_BYTES >= text.size.div_ceil(PAGE_BYTES);
        is_everywhere.then_some(text.in_file()?)
    }

    fn patched(&self) -> Option<Vec<Range<u64>>> {
        let table = self.find(b".altinstructions\0")?;
        let count = table.size / ALTERNATIVE_BYTES;
        if count > ALTERNATIVES_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(count * ALTERNATIVE_BYTES).ok()?];
        self.file.read_at(&mut bytes, table.offset).ok()?;
        let text: Vec<_> = self
            .all
            .iter()
            .filter(|section| section.is_text())
            .collect();
        let entries = bytes.chunks_exact(ALTERNATIVE_BYTES as usize);
        let page = |(nth, entry): (u64, &[u8])| {
            let distance = i32::from_le_bytes(*entry.first_chunk()?);
            let at = table.addr.checked_add(nth * ALTERNATIVE_BYTES)?;
            let place = at.checked_add_signed(distance.into())?;
            // All are in text: what is not is a table of another form.
            let within = |section: &&SectionHeader| section.offset_of(place);
            Some(text.iter().find_map(within)? / PAGE_BYTES)
        };
        let pages: Option<BTreeSet<u64>> = (0..).zip(entries).map(page).collect();
        let pages: Vec<u64> = pages?.into_iter().collect();
        let runs = pages.chunk_by(|page, next| page + 1 == *next);
        let range =
            |run: &[u64]| run[0] * PAGE_BYTES..(run[run.len() - 1] + 1).saturating_mul(PAGE_BYTES);
        Some(runs.map(range).collect())
    }

    fn find(&self, name: &[u8]) -> Option<&SectionHeader> {
        let names = self.all.get(self.names)?;
        self.all
            .iter()
            .find(|section| self.is_named(section, names, name) == Some(true))
    }

    fn is_named(
        &self,
        section: &SectionHeader,
        names: &SectionHeader,
        name: &[u8],
    ) -> Option<bool> {
        let mut found = [0; NAME_BYTES];
        let found = found.get_mut(..name.len())?;
        let offset = names.offset.checked_add(section.name.into())?;
        self.file.read_at(found, offset).ok()?;
        Some(found == name)
    }
}

impl SectionHeader {
    fn in_file(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.size)?)
    }

    fn is_text(&self) -> bool {
        self.flags & (ALLOC | EXECUTE) == ALLOC | EXECUTE && self.kind == BYTES
    }

    /// Where in the file is what will be at this address.
    fn offset_of(&self, address: u64) -> Option<u64> {
        let within = address.checked_sub(self.addr)?;
        (within < self.size).then(|| self.offset.checked_add(within))?
    }
}
