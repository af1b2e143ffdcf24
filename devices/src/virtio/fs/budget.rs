//! What the guest of a machine can make its file servers hold, all of them together.
//!
//! A guest decides by itself what it remembers and keeps open, and a hostile one never gives
//! anything back; so the limits are of what this process can spare: a part of what the guest was
//! given. They are the machine's and not each share's, since a machine may have seventeen: a guest
//! that spends all on one share has none left for its others, which harms nobody else. At worst,
//! for each 256 MiB of the guest's memory,
//!
//! ```text
//! nodes           262,144 of 80 bytes                                 20 MiB
//! long names      8 MiB, and the allocator's rounding                 13 MiB
//! ```
//!
//! and, whatever its memory,
//!
//! ```text
//! open files      32,768 of 100 bytes, and as many descriptors         3 MiB
//! 17 shares' caches and buffers, which have limits of their own       16 MiB
//! ```

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of the guest's memory, what allows it one node (64 bytes, and up to 16 in the index and the list
/// of free ones). A well-behaved guest spends more than this on a file in its caches, so it is
/// short of memory, and gives nodes back, before it is refused one.
const MEMORY_BYTES_PER_NODE: u64 = 1 << 10;

/// However little memory there is, and however much: the files of a large closure, and those of
/// many of them.
const NODES: RangeInclusive<usize> = 1 << 16..=1 << 22;

/// Names too long for their nodes, in bytes for each node; nearly all need none.
const LONG_NAMES_BYTES_PER_NODE: usize = 32;

/// Files of changing shares held open: a guest's programs have by default 1,024 each.
const HANDLES_MAX: usize = 1 << 15;

/// What is left for the shares of one machine.
pub struct Budget {
    pub(super) nodes: Count,
    pub(super) long_names_bytes: Count,
    pub(super) handles: Count,
}

impl Budget {
    /// The budget of a machine with that much memory.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Self {
        let nodes = usize::try_from(bytes / MEMORY_BYTES_PER_NODE).unwrap_or(usize::MAX);
        let nodes = nodes.clamp(*NODES.start(), *NODES.end());
        let names = nodes.saturating_mul(LONG_NAMES_BYTES_PER_NODE);
        Self::new(nodes, names, HANDLES_MAX)
    }

    pub(super) fn new(nodes: usize, long_names_bytes: usize, handles: usize) -> Self {
        Self {
            nodes: Count::new(nodes),
            long_names_bytes: Count::new(long_names_bytes),
            handles: Count::new(handles),
        }
    }
}

/// The budget of a machine of 256 MiB.
impl Default for Budget {
    fn default() -> Self {
        Self::for_memory(256 << 20)
    }
}

/// How many of one thing are left.
pub struct Count(AtomicUsize);

impl Count {
    fn new(left: usize) -> Self {
        Self(AtomicUsize::new(left))
    }

    /// Takes `wanted`, or nothing where fewer are left; whether it did.
    #[must_use]
    pub fn take(&self, wanted: usize) -> bool {
        let left = |left: usize| left.checked_sub(wanted);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
    }

    /// Whether so many are left.
    pub fn has(&self, wanted: usize) -> bool {
        self.0.load(Ordering::Relaxed) >= wanted
    }

    /// Gives back what was taken.
    pub fn give_back(&self, taken: usize) {
        self.0.fetch_add(taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_remembers_more_files_within_bounds() {
        let nodes = |bytes| Budget::for_memory(bytes).nodes.0.into_inner();
        assert_eq!(nodes(32 << 20), 1 << 16);
        assert_eq!(nodes(256 << 20), 1 << 18);
        assert_eq!(nodes(u64::MAX), 1 << 22);
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let count = Count::new(3);
        assert!(count.take(2));
        assert!(!count.take(2), "nothing is taken in part");
        assert!(count.take(1));
        assert!(count.take(0));
        assert!(!count.take(1));
        count.give_back(2);
        assert!(count.take(2));
        assert!(!count.take(usize::MAX));
    }
}
