//! From a kernel file to a CPU that can run it.
//!
//! Two formats: an uncompressed `vmlinux` (ELF, mapped rather than copied) and the `bzImage` that
//! distributions install. Both are entered by the 64-bit boot protocol
//! (Documentation/arch/x86/boot.rst): long mode, an identity map of the first GiB, `boot_params`
//! in `rsi`. Firmware, PVH and multiboot are left out.

pub mod acpi;
mod bzimage;
mod elf;
pub mod initramfs;
pub mod initrd;
pub mod modules;
pub mod mp;
mod params;
pub mod smbios;
mod tables;
mod unpack;

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, ensure};
use devices::Memory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _};

use crate::bundle::Bundle;
use crate::layout;
use crate::window::Window;

use initramfs::Archive;
pub use initrd::Initrd;
pub use tables::{SEGMENTS, Segment};

/// No kernel is larger: Debian's largest has 60 MB as an ELF file without symbols.
const KERNEL_BYTES_MAX: u64 = 1 << 30;

/// A kernel that is in memory with all it is given.
#[derive(Debug)]
pub struct Loaded {
    /// Where the boot CPU starts.
    pub entry: Entry,
    /// Guest-physical memory that is the kernel's file, whole pages.
    pub mapped: Vec<Range<u64>>,
    /// All that has come from the file, whole pages.
    pub present: Vec<Range<u64>>,
}

/// Where the boot CPU starts.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First instruction, guest-physical.
    pub rip: u64,
    /// `boot_params`, guest-physical.
    pub rsi: u64,
    /// PML4, guest-physical.
    pub cr3: u64,
}

/// What the kernel is given besides its own file.
pub struct Given<'a> {
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Initial root file system.
    pub initramfs: &'a Archive,
    /// What is unpacked behind it.
    pub initrd: Option<&'a Initrd>,
}

/// Loads the kernel in `path` and all it is given into `memory`.
///
/// # Errors
/// The file cannot be read, is no kernel for this machine, or does not fit.
pub fn load(memory: &Memory, path: &Path, given: &Given<'_>) -> anyhow::Result<Loaded> {
    load_kernel(memory, path, given)
        .with_context(|| format!("cannot boot the kernel {}", path.display()))
}

fn load_kernel(memory: &Memory, path: &Path, given: &Given<'_>) -> anyhow::Result<Loaded> {
    // Non-blocking, since opening a FIFO waits for its writer.
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    ensure!(file.metadata()?.is_file(), "it is not a regular file");
    let file = if Bundle::is_one(&file) {
        Bundle::read(file)?.kernel()?
    } else {
        Window::whole(file)?
    };
    ensure!(
        file.bytes() <= KERNEL_BYTES_MAX,
        "it has {} MiB; no kernel is that large",
        file.bytes() >> 20
    );
    let mut magic = [0; 4];
    ensure!(
        file.bytes() >= magic.len() as u64,
        "it has only {} bytes",
        file.bytes()
    );
    file.read_at(&mut magic, 0)?;
    let kernel = match &magic {
        b"\x7fELF" => elf::load(memory, &file)?,
        _ => bzimage::load(memory, &file)?,
    };
    ensure!(
        kernel.end <= tables::MAPPED_BYTES,
        "it wants to be at {:#x}, and a kernel is entered in the first GiB",
        kernel.entry
    );
    let initramfs = place_initramfs(memory, given, kernel.end)?;
    write_cmdline(memory, given.cmdline)?;
    tables::write(memory)?;
    params::write(memory, &kernel, given, initramfs)?;
    let entry = Entry {
        rip: kernel.entry,
        rsi: layout::BOOT_PARAMS,
        cr3: layout::PAGE_TABLES,
    };
    Ok(Loaded {
        entry,
        mapped: kernel.mapped,
        present: kernel.present,
    })
}

/// A kernel that is in place.
struct Kernel {
    /// First instruction, guest-physical.
    entry: u64,
    /// First address behind the kernel, its bss and what it needs to unpack itself.
    end: u64,
    /// The setup header of a bzImage; one made up for an ELF file.
    header: linux_loader::loader::bootparam::setup_header,
    /// Memory that is the file itself.
    mapped: Vec<Range<u64>>,
    /// Memory that is the file itself or a copy of it.
    present: Vec<Range<u64>>,
}

/// Puts the initramfs as high in low memory as it goes, whole pages, and returns its place.
fn place_initramfs(
    memory: &Memory,
    given: &Given<'_>,
    kernel_end: u64,
) -> anyhow::Result<(u64, u64)> {
    // An archive that is not compressed must begin at a multiple of 4; between two there may be NULs.
    let own = given.initramfs.bytes().next_multiple_of(4);
    let length = own.saturating_add(given.initrd.map_or(0, |initrd| initrd.file.bytes()));
    if length == 0 {
        return Ok((0, 0));
    }
    let low_end = low_memory_end(memory);
    let start = low_end
        .checked_sub(length)
        .map(|start| start & !0xfff)
        .filter(|&start| start >= kernel_end)
        .with_context(|| {
            format!(
                "memory: too small for the kernel ({} MiB) and its initramfs ({} KiB)",
                kernel_end.div_ceil(1 << 20),
                length.div_ceil(1 << 10)
            )
        })?;
    given
        .initramfs
        .place(memory, GuestAddress(start))
        .context("cannot place the initramfs")?;
    if let Some(Initrd { path, file }) = given.initrd {
        let place = GuestAddress(start + own);
        file.copy(memory, place, 0, usize::try_from(file.bytes())?)
            .with_context(|| format!("cannot read the initrd {}", path.display()))?;
    }
    Ok((start, length))
}

fn write_cmdline(memory: &Memory, cmdline: &str) -> anyhow::Result<()> {
    ensure!(
        cmdline.len() < layout::CMDLINE_BYTES_MAX,
        "the kernel command line has {} bytes, of at most {}",
        cmdline.len(),
        layout::CMDLINE_BYTES_MAX - 1
    );
    let line = [cmdline.as_bytes(), &[0]].concat();
    memory
        .write_slice(&line, GuestAddress(layout::CMDLINE))
        .context("cannot place the command line")
}

/// Sets the byte at `checksum` of a table of firmware, so that all its bytes add up to zero.
fn add_up(table: &mut [u8], checksum: usize) {
    let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    table[checksum] = sum.wrapping_neg();
}

/// First address behind low memory.
fn low_memory_end(memory: &Memory) -> u64 {
    memory
        .iter()
        .next()
        .map_or(0, vm_memory::GuestMemoryRegion::len)
}

#[cfg(test)]
mod tests;
