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

/// The names of sections, or of so few symbols, have a few KiB.
const NAMES_BYTES_MAX: u64 = 64 << 10;

/// The sections of a file. All in them is what the file says, and may be wrong.
pub struct Headers<'a> {
    pub file: &'a Window,
    pub all: Vec<SectionHeader>,
    names: Names,
}

impl<'a> Headers<'a> {
    /// Those of `file`; none: it has no sections, or says where they are and is wrong.
    pub fn read(file: &'a Window, header: &FileHeader) -> Option<Self> {
        let count = usize::from(header.shnum.min(SECTIONS_MAX));
        let mut all = vec![SectionHeader::new_zeroed(); count];
        file.read_at(all.as_mut_slice().as_mut_bytes(), header.shoff)
            .ok()?;
        let names = all.get(usize::from(header.shstrndx));
        let names = names.and_then(|section| Names::read(file, section));
        Some(Self {
            file,
            names: names.unwrap_or_default(),
            all,
        })
    }

    /// The section of this name.
    pub fn find(&self, name: &str) -> Option<&SectionHeader> {
        let is_it = |section: &&SectionHeader| self.names.at(section.name) == Some(name.as_bytes());
        self.all.iter().find(is_it)
    }

    /// The value of the symbol of this name.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        let table = self.all.iter().find(|section| section.kind == SYMBOLS)?;
        let names = self.all.get(usize::try_from(table.link).ok()?)?;
        let names = Names::read(self.file, names)?;
        let count = table.size / size_of::<Symbol>() as u64;
        if count > SYMBOLS_MAX {
            return None;
        }
        let mut symbols = vec![Symbol::new_zeroed(); usize::try_from(count).ok()?];
        self.file
            .read_at(symbols.as_mut_slice().as_mut_bytes(), table.offset)
            .ok()?;
        let is_it = |symbol: &&Symbol| names.at(symbol.name) == Some(name.as_bytes());
        symbols.iter().find(is_it).map(|symbol| symbol.value)
    }

    /// Where in the file is what will be at this address, if it comes from the file.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let within = |section: &SectionHeader| section.offset_of(address);
        self.all
            .iter()
            .filter(|section| section.is_loaded())
            .find_map(within)
    }
}

/// A string table: names that end in a NUL each.
#[derive(Default)]
struct Names(Vec<u8>);

impl Names {
    fn read(file: &Window, section: &SectionHeader) -> Option<Self> {
        if section.size > NAMES_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(section.size).ok()?];
        file.read_at(&mut bytes, section.offset).ok()?;
        Some(Self(bytes))
    }

    fn at(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.0.get(usize::try_from(offset).ok()?..)?;
        rest.split(|&byte| byte == 0).next()
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
