//! The GDT and the page tables that a 64-bit kernel is entered with.

use anyhow::Context;
use devices::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::layout;

/// A segment of the boot GDT, as a CPU holds it.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its selector: the offset of its descriptor.
    pub selector: u16,
    /// Type field of the descriptor (Intel SDM vol. 3A, §3.4.5.1).
    pub kind: u8,
    /// Holds 64-bit code.
    pub long: bool,
    descriptor: u64,
}

/// Code, data and task state. Selectors 0x10 and 0x18 are `__BOOT_CS` and `__BOOT_DS` of the boot
/// protocol; all are flat.
pub const SEGMENTS: [Segment; 3] = [
    Segment {
        selector: 0x10,
        kind: 0xb,
        long: true,
        descriptor: 0x00af_9b00_0000_ffff,
    },
    Segment {
        selector: 0x18,
        kind: 0x3,
        long: false,
        descriptor: 0x00cf_9300_0000_ffff,
    },
    Segment {
        selector: 0x20,
        kind: 0xb,
        long: false,
        descriptor: 0x008f_8b00_0000_ffff,
    },
];

const PRESENT_WRITABLE: u64 = 0x03;
const LARGE_PAGE: u64 = 0x80;
const ENTRIES: u64 = 512;
const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// Bytes from zero that the boot CPU can reach: one page directory of large pages.
pub const MAPPED_BYTES: u64 = ENTRIES * LARGE_PAGE_BYTES;

/// Writes the GDT, and page tables that map the first GiB onto itself in 2 MiB pages.
pub fn write(memory: &Memory) -> anyhow::Result<()> {
    for segment in SEGMENTS {
        let entry = layout::GDT + u64::from(segment.selector);
        memory
            .write_obj(segment.descriptor, GuestAddress(entry))
            .context("cannot write the GDT")?;
    }
    let [pml4, pdpt, directory] = [0, 1, 2].map(|page| layout::PAGE_TABLES + page * 0x1000);
    let mut entries = vec![
        (pml4, pdpt | PRESENT_WRITABLE),
        (pdpt, directory | PRESENT_WRITABLE),
    ];
    entries.extend((0..ENTRIES).map(|n| {
        (
            directory + n * 8,
            (n * LARGE_PAGE_BYTES) | PRESENT_WRITABLE | LARGE_PAGE,
        )
    }));
    for (gpa, entry) in entries {
        memory
            .write_obj(entry, GuestAddress(gpa))
            .context("cannot write the page tables")?;
    }
    Ok(())
}
