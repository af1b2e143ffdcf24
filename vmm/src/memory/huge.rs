//! Huge pages under guest memory: a boot fills some of them and touches a page or two of others.
//!
//! Linux lays most of what it boots with side by side, at both ends of memory and behind its own
//! image. There a huge page saves 512 exits and costs nothing, so the host's policy is left as it is.

use devices::Memory;
use rustix::mm::Advice;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::advise;
use super::pagemap::Pagemap;

/// A huge page of the processor.
pub(super) const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Blocks that get an advice of their own, at most: each may cost two mappings, of which a process has
/// 65,530.
pub(super) const BLOCKS_MAX: usize = 1 << 12;

/// Gives small pages to what is but partly there, as where the guest has returned pages, by splitting
/// huge ones: the host would gather the rest to one again, with zeroes for what was returned.
///
/// What is not there at all gets what the host's policy says when the guest comes to it.
///
/// # Errors
/// The host does not tell what is there, or does not know the advice.
pub fn split_sparse(memory: &Memory) -> anyhow::Result<()> {
    let pagemap = Pagemap::open()?;
    let mut left = BLOCKS_MAX;
    for region in memory.iter() {
        let blocks = region.len() / HUGE_PAGE_BYTES;
        for offset in (0..blocks).map(|block| block * HUGE_PAGE_BYTES) {
            let host = region.as_ptr() as u64 + offset;
            if left == 0 || !is_sparse(&pagemap, host)? {
                continue;
            }
            left -= 1;
            let start = region.start_addr().0 + offset;
            let block = || start..start + HUGE_PAGE_BYTES;
            advise(memory, block(), Advice::LinuxNoHugepage)?;
            // A huge page of which parts are gone is split at once, which frees these, where the
            // rest is said to be cold: a hint about the order in which pages are evicted.
            advise(memory, block(), Advice::LinuxCold)?;
        }
    }
    Ok(())
}

/// Whether some pages of the huge page at this address are there, and some are not.
fn is_sparse(pagemap: &Pagemap, host: u64) -> anyhow::Result<bool> {
    let pages = pagemap.look(&(host..host + HUGE_PAGE_BYTES))?;
    let present = pages.iter().filter(|page| page.is_present()).count();
    Ok((1..pages.len()).contains(&present))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vm_memory::{Bytes, GuestAddress};

    use super::super::{PAGE_BYTES, allocate_small};
    use super::*;

    /// What the host says of the mapping that begins at `start` (`VmFlags` of proc(5)), if one does:
    /// one that differs from its neighbours.
    fn mapping(start: u64) -> Option<String> {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let at = maps.find(&format!("\n{start:x}-"))?;
        let (_, flags) = maps[at..].split_once("VmFlags:").unwrap();
        Some(flags.lines().next().unwrap().into())
    }

    fn flags_of_mapping(start: u64) -> String {
        mapping(start).expect("a mapping begins there")
    }

    #[test]
    fn what_is_partly_there_gets_small_pages_and_stays_as_it_is() {
        let memory = allocate_small(8 << 20).unwrap();
        let host = |gpa| memory.get_host_address(GuestAddress(gpa)).unwrap() as u64;
        let touched = [5u64 << 20, (5 << 20) + PAGE_BYTES];
        for gpa in touched {
            memory.write_obj(gpa, GuestAddress(gpa)).unwrap();
        }
        assert_eq!(mapping(host(4 << 20)), None);
        split_sparse(&memory).unwrap();
        assert!(flags_of_mapping(host(4 << 20)).contains(" nh"));
        assert!(!flags_of_mapping(host(6 << 20)).contains(" nh"));
        for gpa in touched {
            assert_eq!(memory.read_obj::<u64>(GuestAddress(gpa)).unwrap(), gpa);
        }
    }
}
