//! Where things are in guest-physical space.
//!
//! ```text
//! 0x0000_0500  GDT                         0x000e_0000  ACPI tables
//! 0x0000_7000  boot_params ("zero page")   0x000f_0000  SMBIOS tables
//! 0x0000_9000  page tables, 3 pages        0x000f_e000  MP table, to 1 MiB
//! 0x0002_0000  kernel command line         0x0100_0000  kernel (where its ELF file says)
//!                                          0xc000_0000  end of low memory, at most
//! 0x0009_fc00  end of conventional memory, 0xd000_0000  virtio-mmio windows
//!              MP floating pointer         0xfec0_0000  I/O APIC, 0xfee0_0000 local APICs
//!                                          0x1_0000_0000  high memory
//!                                          behind it, from a whole GiB on: files as memory
//! ```

use devices::virtio::mmio;

/// The boot GDT.
pub const GDT: u64 = 0x500;
/// `struct boot_params`, which is one page.
pub const BOOT_PARAMS: u64 = 0x7000;
/// PML4, then PDPT, then one page directory.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel command line with its NUL.
pub const CMDLINE: u64 = 0x2_0000;
/// Bytes of the command line with its NUL: `COMMAND_LINE_SIZE` of Linux on x86.
pub const CMDLINE_BYTES_MAX: usize = 2048;
/// End of the memory that a PC has below its video memory.
pub const CONVENTIONAL_END: u64 = 0x9_fc00;
/// The MP floating pointer structure: Linux looks here first but for the first KiB, which is no place for it.
pub const MP_POINTER: u64 = CONVENTIONAL_END;
/// ACPI tables: Linux looks for their root here even without being told.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// SMBIOS tables, behind those of ACPI: Linux looks for their entry point from here on.
pub const SMBIOS: u64 = 0xf_0000;
/// The MP configuration table, behind those of SMBIOS.
pub const MP_TABLE: u64 = 0xf_e000;
/// End of the tables and of the first MiB.
pub const TABLES_END: u64 = 0x10_0000;
/// Lowest address that a kernel may be loaded to.
pub const HIMEM: u64 = 0x10_0000;

/// Low memory ends here at most; the rest of a larger memory begins at [`HIGH_MEMORY`].
pub const LOW_MEMORY_END_MAX: u64 = 0xc000_0000;
/// Memory that does not fit below the hole.
pub const HIGH_MEMORY: u64 = 1 << 32;

/// What files that are memory begin at, behind all memory: no page, no section of Linux' memory and no entry
/// of a page table is larger, so that none holds both.
pub const FILES_ALIGNMENT: u64 = 1 << 30;

/// The first virtio-mmio window.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// The first interrupt of the virtio devices: below are those with a meaning on each PC.
pub const VIRTIO_GSI: u32 = 5;
/// Devices there can be.
pub const VIRTIO_DEVICES_MAX: usize = IO_APIC_INPUTS as usize - VIRTIO_GSI as usize;

/// I/O APIC, where KVM has it.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Its inputs.
pub const IO_APIC_INPUTS: u8 = 24;
/// Local APICs, likewise.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel CPUs for real mode, below the BIOS.
pub const KVM_TSS: usize = 0xfffb_d000;

/// Where a machine with so many bytes of memory has other memory, behind its own.
pub fn above_memory(bytes: u64) -> u64 {
    let high = bytes.saturating_sub(LOW_MEMORY_END_MAX);
    HIGH_MEMORY
        .saturating_add(high)
        .saturating_add(FILES_ALIGNMENT - 1)
        & !(FILES_ALIGNMENT - 1)
}

/// Register window of the `index`-th virtio device.
pub fn virtio_window(index: usize) -> u64 {
    VIRTIO_MMIO + index as u64 * mmio::WINDOW_BYTES
}

/// Interrupt of the `index`-th virtio device.
pub fn virtio_gsi(index: usize) -> u32 {
    VIRTIO_GSI + u32::try_from(index).expect("there are at most VIRTIO_DEVICES_MAX devices")
}
