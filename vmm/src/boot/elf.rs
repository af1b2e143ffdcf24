//! `vmlinux`: an ELF file whose segments are mapped where they want to be (ELF-64, version 1.5).
//!
//! Every whole page that the kernel only reads is mapped from the file (`sections.rs`); the pages at
//! its ragged ends are copied. So is what it writes to, writable segments but for large parts that are
//! constant, and text that it rewrites as it starts, all of it or single pages: to take a private copy
//! of a mapped page at its first write, which is an exit, costs far more than to have copied it. The
//! rest of a segment (`.bss`) is zero, and there: Linux clears it first of all.

mod headers;
mod sections;
mod sites;

use std::ops::Range;

use anyhow::{Context, ensure};
use devices::Memory;
use vm_memory::GuestAddress;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{Kernel, low_memory_end};
use crate::layout;
use crate::memory::{PAGE_BYTES, populate};
use crate::window::Window;
use sections::Sections;

/// `Elf64_Ehdr`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

/// `Elf64_Phdr`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const CLASS_64: u8 = 2;
const DATA_LITTLE_ENDIAN: u8 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PF_W: u32 = 2;

/// Of what is zero, that is there at once: Linux has some hundred KiB to a few MiB.
const ZERO_BYTES_MAX: u64 = 8 << 20;

/// Linux has five; this is what a file may make the monitor look at.
const PROGRAM_HEADERS_MAX: u16 = 64;

/// Loads the kernel `file`.
pub fn load(memory: &Memory, file: &Window) -> anyhow::Result<Kernel> {
    let file_bytes = file.bytes();
    let mut header = FileHeader::new_zeroed();
    file.read_at(header.as_mut_bytes(), 0)?;
    check(&header, file_bytes)?;
    let mut loaded: Vec<Range<u64>> = Vec::new();
    let mut mapped = Vec::new();
    let mut present = Vec::new();
    let sections = Sections::read(file, &header);
    for index in 0..header.phnum {
        let segment = program_header(file, &header, index)?;
        if segment.kind != PT_LOAD || segment.memsz == 0 {
            continue;
        }
        let end = check_segment(&segment, file_bytes, low_memory_end(memory))?;
        // What one of them leaves to be zero, the other would fill.
        ensure!(
            loaded
                .iter()
                .all(|other| other.end <= segment.paddr || end <= other.start),
            "two of its segments want to be at {:#x}",
            segment.paddr
        );
        mapped.extend(place(memory, file, &segment, &sections)?);
        present.push(be_there(memory, &segment));
        loaded.push(segment.paddr..end);
    }
    ensure!(
        loaded.iter().any(|range| range.contains(&header.entry)),
        "its entry point {:#x} lies in no segment",
        header.entry
    );
    Ok(Kernel {
        entry: header.entry,
        end: loaded.iter().map(|range| range.end).max().unwrap_or(0),
        header: super::params::elf_setup_header(),
        mapped,
        present,
    })
}

fn check(header: &FileHeader, file_bytes: u64) -> anyhow::Result<()> {
    let [_, _, _, _, class, data, ..] = header.ident;
    ensure!(
        class == CLASS_64 && data == DATA_LITTLE_ENDIAN && header.machine == MACHINE_X86_64,
        "it is not built for x86-64"
    );
    ensure!(
        header.kind == TYPE_EXECUTABLE,
        "it is an ELF file, but not an executable"
    );
    ensure!(
        usize::from(header.phentsize) == size_of::<ProgramHeader>(),
        "its program headers have {} bytes instead of {}",
        header.phentsize,
        size_of::<ProgramHeader>()
    );
    ensure!(
        (1..=PROGRAM_HEADERS_MAX).contains(&header.phnum),
        "it has {} program headers; a kernel has 1 to {PROGRAM_HEADERS_MAX}",
        header.phnum
    );
    let headers_bytes = u64::from(header.phnum) * size_of::<ProgramHeader>() as u64;
    let headers_end = header.phoff.checked_add(headers_bytes);
    ensure!(
        headers_end.is_some_and(|end| end <= file_bytes),
        "it ends before its program headers"
    );
    Ok(())
}

fn program_header(file: &Window, header: &FileHeader, index: u16) -> anyhow::Result<ProgramHeader> {
    let mut segment = ProgramHeader::new_zeroed();
    let offset = u64::from(index) * size_of::<ProgramHeader>() as u64;
    file.read_at(segment.as_mut_bytes(), header.phoff + offset)
        .context("cannot read its program headers")?;
    Ok(segment)
}

/// Checks that a segment lies in the file and in memory, and returns its end in memory.
fn check_segment(segment: &ProgramHeader, file_bytes: u64, low_end: u64) -> anyhow::Result<u64> {
    let in_file = segment
        .offset
        .checked_add(segment.filesz)
        .is_some_and(|end| end <= file_bytes);
    ensure!(
        in_file && segment.filesz <= segment.memsz,
        "it is cut short or damaged"
    );
    let end = segment.paddr.checked_add(segment.memsz);
    let Some(end) = end.filter(|_| segment.paddr >= layout::HIMEM) else {
        anyhow::bail!(
            "a segment wants to be at {:#x}, outside memory",
            segment.paddr
        );
    };
    ensure!(
        end <= low_end,
        "memory: {} MiB are too small for it; it needs {} MiB",
        low_end >> 20,
        end.div_ceil(1 << 20)
    );
    Ok(end)
}

/// Loads a segment but for the rest that is zero, and returns the memory that is mapped.
fn place(
    memory: &Memory,
    file: &Window,
    segment: &ProgramHeader,
    sections: &Sections,
) -> anyhow::Result<Vec<Range<u64>>> {
    let aligned = segment.offset % PAGE_BYTES == segment.paddr % PAGE_BYTES;
    let in_file = segment.offset..segment.offset + segment.filesz;
    let constant = if aligned {
        sections.constant(&in_file, segment.flags & PF_W != 0)
    } else {
        Vec::new()
    };
    let in_memory = |offset: u64| segment.paddr + (offset - segment.offset);
    let mut mapped = Vec::new();
    let mut rest = segment.paddr;
    for part in constant {
        let part = in_memory(part.start)..in_memory(part.end);
        copy(memory, file, segment, rest..part.start)?;
        rest = part.end;
        mapped.extend(map(memory, file, segment, part, sections)?);
    }
    copy(memory, file, segment, rest..in_memory(in_file.end))?;
    Ok(mapped)
}

/// Has what is zero in a segment be there, and returns the whole pages of the segment that are.
fn be_there(memory: &Memory, segment: &ProgramHeader) -> Range<u64> {
    let whole = |end: u64| end.next_multiple_of(PAGE_BYTES);
    let start = segment.paddr - segment.paddr % PAGE_BYTES;
    let from_file = whole(segment.paddr + segment.filesz);
    let zero = segment.memsz - segment.filesz;
    let end = whole(segment.paddr + segment.filesz + zero.min(ZERO_BYTES_MAX));
    // Where the host cannot, pages come one by one.
    let is_there = from_file < end && populate(memory, from_file..end).is_ok();
    start..if is_there { end } else { from_file }
}

/// Maps the whole pages of a part of a segment, which are returned, and copies the rest, as well as
/// those of its pages that will be written to all the same.
fn map(
    memory: &Memory,
    file: &Window,
    segment: &ProgramHeader,
    part: Range<u64>,
    sections: &Sections,
) -> anyhow::Result<Option<Range<u64>>> {
    let first_page = part.start.next_multiple_of(PAGE_BYTES);
    let last_page = part.end - part.end % PAGE_BYTES;
    if first_page >= last_page {
        copy(memory, file, segment, part)?;
        return Ok(None);
    }
    copy(memory, file, segment, part.start..first_page)?;
    let offset = segment.offset + (first_page - segment.paddr);
    file.map(memory, first_page, last_page - first_page, offset)?;
    for pages in sections.patched(&(offset..offset + (last_page - first_page))) {
        let start = first_page + (pages.start - offset);
        // Where the host cannot, each page is copied when it is written to.
        let _ = populate(memory, start..start + (pages.end - pages.start));
    }
    copy(memory, file, segment, last_page..part.end)?;
    Ok(Some(first_page..last_page))
}

/// Copies the part of a segment that is to be at this place in memory.
fn copy(
    memory: &Memory,
    file: &Window,
    segment: &ProgramHeader,
    part: Range<u64>,
) -> anyhow::Result<()> {
    let offset = segment.offset + (part.start - segment.paddr);
    let bytes = usize::try_from(part.end - part.start)?;
    file.copy(memory, GuestAddress(part.start), offset, bytes)
}
