//! `struct boot_params`, the "zero page" (Documentation/arch/x86/zero-page.rst).

use anyhow::Context;
use devices::Memory;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::{Given, Kernel, low_memory_end};
use crate::layout;

/// e820 types.
const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// `type_of_loader`: one that has no number assigned.
const LOADER_UNDEFINED: u8 = 0xff;

/// The setup header that a bzImage would have, for a kernel without one.
pub fn elf_setup_header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020c,
        kernel_alignment: 0x20_0000,
        ..setup_header::default()
    }
}

/// Writes the parameters to their page.
pub fn write(
    memory: &Memory,
    kernel: &Kernel,
    given: &Given<'_>,
    initramfs: (u64, u64),
) -> anyhow::Result<()> {
    let mut params = boot_params {
        hdr: kernel.header,
        ..boot_params::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = u32::try_from(layout::CMDLINE)?;
    params.hdr.cmdline_size = u32::try_from(given.cmdline.len())?;
    params.hdr.ramdisk_image = u32::try_from(initramfs.0)?;
    params.hdr.ramdisk_size = u32::try_from(initramfs.1)?;
    params.acpi_rsdp_addr = layout::ACPI_TABLES;
    for (entry, (start, end, kind)) in params.e820_table.iter_mut().zip(e820(memory)) {
        *entry = boot_e820_entry {
            addr: start,
            size: end - start,
            r#type: kind,
        };
        params.e820_entries += 1;
    }
    memory
        .write_obj(params, GuestAddress(layout::BOOT_PARAMS))
        .context("cannot write the boot parameters")
}

/// The memory map: (start, end, type).
fn e820(memory: &Memory) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, layout::CONVENTIONAL_END, RAM),
        (layout::ACPI_TABLES, layout::TABLES_END, RESERVED),
        (layout::HIMEM, low_memory_end(memory), RAM),
    ];
    let high = memory
        .iter()
        .filter(|region| region.start_addr().0 >= layout::HIGH_MEMORY);
    map.extend(high.map(|region| {
        let start = region.start_addr().0;
        (start, start + region.len(), RAM)
    }));
    map
}
