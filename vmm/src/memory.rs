//! Guest memory: anonymous pages, some of them replaced by private mappings of files, the kernel's above all.
//!
//! A page of the kernel that nobody writes stays the host's page cache, shared by every machine
//! that runs the same kernel. The one rule for such pages: nothing in this process may form a
//! reference to them, since a file that is cut short while mapped turns accesses into `SIGBUS`.
#![expect(
    unsafe_code,
    reason = "maps files over guest memory, and advises about it"
)]

mod clean;
mod huge;
mod pagemap;
mod touched;

use std::fs::File;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use devices::Memory;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect,
};
use vm_memory::{
    GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
    GuestRegionMmap, MmapRegion,
};

use crate::layout;
pub use clean::{give_back, give_back_own};
pub use huge::split_sparse;
pub use touched::Touched;

/// A page of the host, which all of mvm's hosts have in this size.
pub const PAGE_BYTES: u64 = 4096;

/// Makes the memory of a machine: `bytes` in one or two regions, nothing touched yet.
///
/// # Errors
/// The host cannot reserve that much.
pub fn allocate(bytes: u64) -> anyhow::Result<Memory> {
    let low = bytes.min(layout::LOW_MEMORY_END_MAX);
    let mut regions = vec![region(0, low)?];
    if bytes > low {
        regions.push(region(layout::HIGH_MEMORY, bytes - low)?);
    }
    let memory = GuestMemoryMmap::from_regions(regions).context("cannot lay out guest memory")?;
    Ok(Arc::new(memory))
}

/// The same for tests that count pages: the host gives this process huge ones no more.
#[cfg(test)]
pub fn allocate_small(bytes: u64) -> anyhow::Result<Memory> {
    rustix::thread::disable_transparent_huge_pages(true)?;
    allocate(bytes)
}

fn region(gpa: u64, bytes: u64) -> anyhow::Result<GuestRegionMmap> {
    let length = usize::try_from(bytes).context("guest memory is larger than an address space")?;
    let cannot = || format!("cannot reserve {} MiB of memory", bytes >> 20);
    let host = reserve(length).with_context(cannot)?;
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: these addresses were nobody's, and stay mapped as long as this process lives.
    let mapping = unsafe { MmapRegion::build_raw(host, length, protection, flags) };
    let mapping = mapping.with_context(cannot)?;
    GuestRegionMmap::new(mapping, GuestAddress(gpa)).context("guest memory wraps around")
}

/// Maps memory where a huge page begins, for as long as this process lives: KVM has huge pages for a guest
/// only where they are the host's too, and Linux before 6.7 maps at any page. Nothing is mapped beside it.
fn reserve(length: usize) -> anyhow::Result<*mut u8> {
    let huge = usize::try_from(huge::HUGE_PAGE_BYTES)?;
    let whole = length.checked_add(2 * huge).context("that wraps around")?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: nothing is mapped over.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), whole, ProtFlags::empty(), flags) }?;
    let before = huge - start.addr() % huge;
    let host = start.wrapping_byte_add(before);
    // SAFETY: what is between two ends of what has just been mapped, which nobody knows of.
    unsafe { mprotect(host, length, MprotectFlags::READ | MprotectFlags::WRITE) }?;
    Ok(host.cast())
}

/// Replaces guest pages by a private mapping of `file`: reads come from the page cache, the first
/// write to a page makes a copy that is the guest's own.
///
/// All three numbers are whole pages, and the file has the bytes.
///
/// # Errors
/// The range is not guest memory, or `mmap` refuses.
pub fn map_file(
    memory: &GuestMemoryMmap,
    gpa: u64,
    bytes: u64,
    file: &File,
    offset: u64,
) -> anyhow::Result<()> {
    ensure!(
        [gpa, bytes, offset]
            .iter()
            .all(|n| n.is_multiple_of(PAGE_BYTES)),
        "cannot map a file at a broken page"
    );
    let length = usize::try_from(bytes)?;
    ensure!(
        memory.check_range(GuestAddress(gpa), length),
        "cannot map a file outside guest memory"
    );
    let host = memory
        .get_host_address(GuestAddress(gpa))
        .context("cannot find guest memory")?;
    // SAFETY: the range lies in one region (the hole keeps regions apart, so a range that is all
    // guest memory is in one), is mapped, and holds nothing that Rust knows of: guest memory is
    // only ever accessed through volatile slices.
    unsafe {
        mmap(
            host.cast(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            file,
            offset,
        )
    }
    .context("cannot map a file over guest memory")?;
    Ok(())
}

/// Makes pages of guest memory its own, as a write to each would: whole pages.
///
/// # Errors
/// The host does not know the advice (before Linux 5.14), or has no memory left.
pub fn populate(memory: &GuestMemoryMmap, range: Range<u64>) -> anyhow::Result<()> {
    advise(memory, range, Advice::LinuxPopulateWrite)
}

/// Gives an advice that changes nothing of what the guest reads.
fn advise(memory: &GuestMemoryMmap, range: Range<u64>, advice: Advice) -> anyhow::Result<()> {
    let bytes = usize::try_from(range.end - range.start)?;
    let host = memory
        .get_slice(GuestAddress(range.start), bytes)
        .context("cannot find guest memory")?
        .ptr_guard_mut()
        .as_ptr();
    // SAFETY: the range is mapped guest memory, and the advice changes nothing of what it holds.
    unsafe { madvise(host.cast(), bytes, advice) }.context("cannot advise about guest memory")
}

/// Regions as (guest address, host address, bytes), for KVM's memory slots.
pub fn regions(memory: &GuestMemoryMmap) -> impl Iterator<Item = (u64, u64, u64)> {
    memory
        .iter()
        .map(|region| (region.start_addr().0, region.as_ptr() as u64, region.len()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn large_memory_leaves_a_hole_below_4_gib() {
        let memory = allocate(6 << 30).unwrap();
        let layout: Vec<_> = regions(&memory)
            .map(|(gpa, _, bytes)| (gpa, bytes))
            .collect();
        assert_eq!(layout, [(0, 3 << 30), (4 << 30, 3 << 30)]);
    }

    #[test]
    fn memory_begins_where_a_huge_page_does() {
        // Of a length for which Linux itself does not see to it.
        for _ in 0..8 {
            let memory = allocate(5 << 20).unwrap();
            let starts = regions(&memory).map(|(_, host, _)| host % huge::HUGE_PAGE_BYTES);
            assert_eq!(starts.collect::<Vec<_>>(), [0]);
        }
    }

    #[test]
    fn a_mapped_file_is_read_and_never_written() {
        let memory = allocate(1 << 20).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        map_file(&memory, 0x4000, 4096, &file, 4096).unwrap();
        memory.write_obj(9u8, GuestAddress(0x4000)).unwrap();
        assert_eq!(
            memory.read_obj::<u16>(GuestAddress(0x4000)).unwrap(),
            0x0709
        );
        let mut bytes = [0; 8192];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 8192]);
    }

    #[test]
    fn a_file_is_not_mapped_past_the_end_of_memory() {
        let memory = allocate(1 << 20).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(map_file(&memory, 0xf_f000, 8192, &file, 0).is_err());
    }
}
