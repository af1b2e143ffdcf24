//! How much of the host's memory a machine has: its guest's part, and what its monitor takes besides.
//!
//! The kernel tells both by mapping (`proc_pid_smaps(5)`). Pages that machines share, as the kernel's
//! text, count for each. Left out: what the kernel itself holds for the process, page tables above all.

use std::fs;
use std::ops::Range;

use anyhow::Context;
use devices::Memory;
use serde::{Deserialize, Serialize};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

/// Memory that is the host's at this moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resident {
    /// The guest's, of what it was given.
    pub guest_bytes: u64,
    /// The monitor's own.
    pub overhead_bytes: u64,
}

/// That of this process, whose guest has `memory`.
///
/// # Errors
/// The kernel does not tell.
pub fn now(memory: &Memory) -> anyhow::Result<Resident> {
    const MAPPINGS: &str = "/proc/self/smaps";
    let guest: Vec<_> = memory
        .iter()
        .map(|region| {
            let start = region.as_ptr() as u64;
            start..start.saturating_add(region.len())
        })
        .collect();
    let mappings =
        fs::read_to_string(MAPPINGS).with_context(|| format!("cannot read {MAPPINGS}"))?;
    Ok(count(&mappings, &guest))
}

fn count(mappings: &str, guest: &[Range<u64>]) -> Resident {
    let mut resident = Resident::default();
    let mut is_guests = false;
    for line in mappings.lines() {
        if let Some(start) = start(line) {
            is_guests = guest.iter().any(|range| range.contains(&start));
        } else if let Some(kib) = line.strip_prefix("Rss:") {
            let kib = kib.trim().strip_suffix(" kB").unwrap_or("");
            let bytes = kib.parse::<u64>().unwrap_or(0).saturating_mul(1 << 10);
            let sum = if is_guests {
                &mut resident.guest_bytes
            } else {
                &mut resident.overhead_bytes
            };
            *sum = sum.saturating_add(bytes);
        }
    }
    resident
}

/// Where a mapping begins whose first line this is.
fn start(line: &str) -> Option<u64> {
    let (start, rest) = line.split_once('-')?;
    rest.contains(' ').then_some(())?;
    u64::from_str_radix(start, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: &str = "\
5000-6000 r-xp 00000000 00:2a 17 /usr/local/bin/mvm
Size:                  4 kB
Rss:                   4 kB
7f00-7f80 rw-p 00000000 00:00 0 
Size:               2048 kB
Rss:                1024 kB
VmFlags: rd wr mr mw
7f80-7fc0 r--p 00001000 00:2a 18 /boot/vmlinux
Rss:                  12 kB
8000-8100 rw-p 00000000 00:00 0 [stack]
Rss:                   8 kB
";

    #[test]
    fn mappings_in_guest_memory_are_the_guests() {
        let resident = count(MAPPINGS, &[0x7f00..0x7f80, 0x7f80..0x8000]);
        assert_eq!(resident.guest_bytes, 1036 << 10);
        assert_eq!(resident.overhead_bytes, 12 << 10);
    }

    #[test]
    fn this_process_has_what_it_wrote() {
        let memory = crate::memory::allocate(8 << 20).unwrap();
        vm_memory::Bytes::write_slice(&*memory, &[1; 8192], vm_memory::GuestAddress(4096)).unwrap();
        let resident = now(&memory).unwrap();
        assert!(resident.guest_bytes >= 8192);
        assert!(resident.overhead_bytes > 1 << 20);
    }
}
