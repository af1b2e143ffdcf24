//! `bzImage`: a compressed kernel with its own unpacker (Documentation/arch/x86/boot.rst).
//!
//! The file is a setup part, which only a BIOS would run, and the protected-mode part, which is
//! copied to where its header wants it and entered at its 64-bit entry, 0x200 behind the start.

use std::iter;

use anyhow::{Context, ensure};
use devices::Memory;
use linux_loader::loader::bootparam::setup_header;
use vm_memory::{ByteValued, GuestAddress};

use super::{Kernel, low_memory_end};
use crate::layout;
use crate::memory::PAGE_BYTES;
use crate::window::Window;

/// Where the setup header begins in the file.
const HEADER_OFFSET: u64 = 0x1f1;
/// The word `HdrS`.
const HEADER_MAGIC: u32 = 0x5372_6448;
/// Protocol 2.12, Linux 3.8: the first with `xloadflags`.
const PROTOCOL_MIN: u16 = 0x020c;
/// `XLF_KERNEL_64`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// The 64-bit entry, behind the start of the protected-mode part.
const ENTRY_64: u64 = 0x200;
const SECTOR_BYTES: u64 = 512;

/// Where the file says which release it is (`kernel_version`), if it is a bzImage that does.
pub fn version_offset(file: &Window) -> Option<u64> {
    let kernel_version = read_header(file).ok()?.kernel_version;
    // Counted from the end of the boot sector; 0 where there is none.
    (kernel_version > 0).then(|| u64::from(kernel_version) + SECTOR_BYTES)
}

fn read_header(file: &Window) -> anyhow::Result<setup_header> {
    let mut header = setup_header::default();
    file.read_at(header.as_mut_slice(), HEADER_OFFSET)
        .context("it is neither an ELF file nor a bzImage")?;
    let magic = header.header;
    ensure!(
        magic == HEADER_MAGIC,
        "it is neither an ELF file nor a bzImage"
    );
    Ok(header)
}

/// Loads the kernel `file`.
pub fn load(memory: &Memory, file: &Window) -> anyhow::Result<Kernel> {
    let header = read_header(file)?;
    let setup_header {
        version,
        xloadflags,
        ..
    } = header;
    ensure!(
        version >= PROTOCOL_MIN && xloadflags & KERNEL_64 != 0,
        "it has no 64-bit entry: a 64-bit Linux since 3.8 is needed"
    );
    let sectors = if header.setup_sects == 0 {
        4
    } else {
        u64::from(header.setup_sects)
    };
    let offset = (sectors + 1) * SECTOR_BYTES;
    let bytes = u64::from(header.syssize) * 16;
    // Signed kernels have their signature behind the part that counts.
    ensure!(
        offset + bytes <= file.bytes() && bytes > ENTRY_64,
        "it is cut short or damaged"
    );
    let start = if header.pref_address >= layout::HIMEM {
        header.pref_address
    } else {
        layout::HIMEM
    };
    let need = bytes.max(u64::from(header.init_size));
    let end = start
        .checked_add(need)
        .context("it wants to be outside memory")?;
    ensure!(
        end <= low_memory_end(memory),
        "memory: {} MiB are too small for it; it needs {} MiB to unpack",
        low_memory_end(memory) >> 20,
        end.div_ceil(1 << 20)
    );
    file.copy(memory, GuestAddress(start), offset, usize::try_from(bytes)?)?;
    let pages = start..(start + bytes).next_multiple_of(PAGE_BYTES);
    Ok(Kernel {
        entry: start + ENTRY_64,
        end,
        header,
        mapped: Vec::new(),
        present: iter::once(pages).collect(),
    })
}
