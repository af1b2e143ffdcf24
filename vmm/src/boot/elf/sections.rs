//! Which text of a `vmlinux` Linux rewrites as it starts, from the sections of its file.
//!
//! A kernel that is built with return thunks lists each of its returns in `.return_sites`, and
//! rewrites them all for the processor that it finds: some ten in each page. What is told here
//! only chooses between two ways to load the same bytes, so that sections that are missing or make
//! no sense are no error.

use std::fs::File;
use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::FileHeader;
use crate::boot::read_at;
use crate::memory::PAGE_BYTES;

/// `Elf64_Shdr`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
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

/// Linux has about forty, a hundred with those of a debugger.
const SECTIONS_MAX: u16 = 256;

/// Names that are looked for are shorter.
const NAME_BYTES: usize = 16;

/// `s32`: where a return is, from here.
const SITE_BYTES: u64 = 4;

/// The part of the file that is text which will be rewritten in nearly each page; empty where that
/// is not so, or not known.
pub fn rewritten(file: &File, header: &FileHeader) -> Range<u64> {
    let sections = Sections { file, header };
    sections.rewritten().unwrap_or_default()
}

struct Sections<'a> {
    file: &'a File,
    header: &'a FileHeader,
}

impl Sections<'_> {
    fn rewritten(&self) -> Option<Range<u64>> {
        let names = self.get(self.header.shstrndx)?;
        let returns = self.find(&names, b".return_sites\0")?;
        let text = self.find(&names, b".text\0")?;
        let pages = text.size.div_ceil(PAGE_BYTES);
        (returns.size / SITE_BYTES >= pages)
            .then_some(text.offset..text.offset.checked_add(text.size)?)
    }

    fn find(&self, names: &SectionHeader, name: &[u8]) -> Option<SectionHeader> {
        (0..self.header.shnum.min(SECTIONS_MAX))
            .filter_map(|index| self.get(index))
            .find(|section| self.is_named(section, names, name) == Some(true))
    }

    fn get(&self, index: u16) -> Option<SectionHeader> {
        let mut section = SectionHeader::new_zeroed();
        let offset = u64::from(index) * size_of::<SectionHeader>() as u64;
        let offset = self.header.shoff.checked_add(offset)?;
        read_at(self.file, section.as_mut_bytes(), offset).ok()?;
        Some(section)
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
        read_at(self.file, found, offset).ok()?;
        Some(found == name)
    }
}
