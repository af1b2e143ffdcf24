//! Which bytes of a `vmlinux` Linux only reads, from the sections of its file.
//!
//! Two things are not as the segments say. A kernel that is built with return thunks lists each of
//! its returns in `.return_sites`, and rewrites them all for the processor that it finds: some ten
//! in each page of text. And in the midst of its data are tables that nobody writes to, above all
//! those for unwinding the stack (`.orc_unwind`), which may be larger than all data. What is told
//! here only chooses between two ways to load the same bytes, so that sections that are missing or
//! make no sense are no error.

use std::fs::File;
use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::FileHeader;
use crate::boot::read_at;
use crate::memory::PAGE_BYTES;

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

/// Of a smaller table in writable memory less is won than a mapping of its own costs.
const TABLE_BYTES_MIN: u64 = 256 << 10;

/// Linux has about forty, a hundred with those of a debugger.
const SECTIONS_MAX: u16 = 256;

/// Names that are looked for are shorter.
const NAME_BYTES: usize = 16;

/// `s32`: where a return is, from here.
const SITE_BYTES: u64 = 4;

/// What the sections of a file say of it, in ranges of the file.
#[derive(Default)]
pub struct Sections {
    /// Text that will be rewritten in nearly each page; empty where that is not so, or not known.
    rewritten: Range<u64>,
    /// Tables in writable memory that are only read.
    tables: Vec<Range<u64>>,
}

impl Sections {
    /// Those of `file`.
    pub fn read(file: &File, header: &FileHeader) -> Self {
        let Some(sections) = headers(file, header) else {
            return Self::default();
        };
        Self {
            rewritten: rewritten(file, header, &sections).unwrap_or_default(),
            tables: sections.iter().filter_map(table).collect(),
        }
    }

    /// The parts of a segment that are only read, in order; `segment` is its range of the file.
    pub fn constant(&self, segment: &Range<u64>, is_writable: bool) -> Vec<Range<u64>> {
        let mut parts = if is_writable {
            let is_within =
                |part: &Range<u64>| segment.start <= part.start && part.end <= segment.end;
            let mut parts = self.tables.clone();
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

fn headers(file: &File, header: &FileHeader) -> Option<Vec<SectionHeader>> {
    let count = usize::from(header.shnum.min(SECTIONS_MAX));
    let mut sections = vec![SectionHeader::new_zeroed(); count];
    read_at(file, sections.as_mut_slice().as_mut_bytes(), header.shoff).ok()?;
    Some(sections)
}

fn table(section: &SectionHeader) -> Option<Range<u64>> {
    let is_constant = section.flags & (WRITE | ALLOC | EXECUTE) == ALLOC;
    let is_table = is_constant && section.kind == BYTES && section.size >= TABLE_BYTES_MIN;
    let end = section.offset.checked_add(section.size)?;
    is_table.then_some(section.offset..end)
}

fn rewritten(file: &File, header: &FileHeader, sections: &[SectionHeader]) -> Option<Range<u64>> {
    let names = sections.get(usize::from(header.shstrndx))?;
    let find = |name: &[u8]| {
        let is_meant =
            |section: &&SectionHeader| is_named(file, section, names, name) == Some(true);
        sections.iter().find(is_meant)
    };
    let returns = find(b".return_sites\0")?;
    let text = find(b".text\0")?;
    let pages = text.size.div_ceil(PAGE_BYTES);
    (returns.size / SITE_BYTES >= pages).then_some(text.offset..text.offset.checked_add(text.size)?)
}

fn is_named(
    file: &File,
    section: &SectionHeader,
    names: &SectionHeader,
    name: &[u8],
) -> Option<bool> {
    let mut found = [0; NAME_BYTES];
    let found = found.get_mut(..name.len())?;
    let offset = names.offset.checked_add(section.name.into())?;
    read_at(file, found, offset).ok()?;
    Some(found == name)
}
