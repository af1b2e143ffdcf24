//! The sections of an ELF file, and the few symbols that a stripped one has kept.

use std::ops::Range;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::FileHeader;
use crate::window::Window;

/// `Elf64_Shdr`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SectionHeader {
    name: u32,
    pub kind: u32,
    pub flags: u64,
    pub addr: u64,
    pub offset: u64,
    pub size: u64,
    link: u32,
    info: u32,
    addralign: u64,
    entsize: u64,
}

/// `Elf64_Sym`.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

/// `SHT_PROGBITS` and `SHT_SYMTAB`.
pub const BYTES: u32 = 1;
const SYMBOLS: u32 = 2;
/// `SHF_WRITE`, `SHF_ALLOC` and `SHF_EXECINSTR`.
pub const WRITE: u64 = 1;
pub const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;

/// Linux has about forty, a hundred with those of a debugger.
const SECTIONS_MAX: u16 = 256;

/// A kernel that was stripped has kept as many at most. To look through the hundred thousand of one
/// that was not takes longer than what is asked for is worth.
const SYMBOLS_MAX: u64 = 256;

/// Names that are looked for have at most as many, with the NUL at their end.
const NAME_BYTES: usize = 32;

/// The sections of a file. All in them is what the file says, and may be wrong.
pub struct Headers<'a> {
    pub file: &'a Window,
    pub all: Vec<SectionHeader>,
    /// Which of them has their names.
    names: usize,
}

impl<'a> Headers<'a> {
    /// Those of `file`; none: it has no sections, or says where they are and is wrong.
    pub fn read(file: &'a Window, header: &FileHeader) -> Option<Self> {
        let count = usize::from(header.shnum.min(SECTIONS_MAX));
        let mut all = vec![SectionHeader::new_zeroed(); count];
        file.read_at(all.as_mut_slice().as_mut_bytes(), header.shoff)
            .ok()?;
        let names = usize::from(header.shstrndx);
        Some(Self { file, all, names })
    }

    /// The section of this name, which ends in a NUL.
    pub fn find(&self, name: &[u8]) -> Option<&SectionHeader> {
        let names = self.all.get(self.names)?;
        self.all
            .iter()
            .find(|section| self.is_named(names, section.name, name) == Some(true))
    }

    /// The value of the symbol of this name, which ends in a NUL.
    pub fn symbol(&self, name: &[u8]) -> Option<u64> {
        let table = self.all.iter().find(|section| section.kind == SYMBOLS)?;
        let names = self.all.get(usize::try_from(table.link).ok()?)?;
        let count = table.size / size_of::<Symbol>() as u64;
        if count > SYMBOLS_MAX {
            return None;
        }
        let mut symbols = vec![Symbol::new_zeroed(); usize::try_from(count).ok()?];
        self.file
            .read_at(symbols.as_mut_slice().as_mut_bytes(), table.offset)
            .ok()?;
        let symbol = symbols
            .iter()
            .find(|symbol| self.is_named(names, symbol.name, name) == Some(true))?;
        Some(symbol.value)
    }

    /// Where in the file is what will be at this address, if it comes from the file.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let within = |section: &SectionHeader| section.offset_of(address);
        self.all
            .iter()
            .filter(|section| section.is_loaded())
            .find_map(within)
    }

    fn is_named(&self, names: &SectionHeader, at: u32, name: &[u8]) -> Option<bool> {
        let mut found = [0; NAME_BYTES];
        let found = found.get_mut(..name.len())?;
        let offset = names.offset.checked_add(at.into())?;
        self.file.read_at(found, offset).ok()?;
        Some(found == name)
    }
}

impl SectionHeader {
    /// Its part of the file.
    pub fn in_file(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.size)?)
    }

    /// Whether it is instructions of the program.
    pub fn is_text(&self) -> bool {
        self.flags & EXECUTE != 0 && self.is_loaded()
    }

    /// Where in the file is what will be at this address.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let within = address.checked_sub(self.addr)?;
        (within < self.size).then(|| self.offset.checked_add(within))?
    }

    fn is_loaded(&self) -> bool {
        self.flags & ALLOC != 0 && self.kind == BYTES
    }
}
