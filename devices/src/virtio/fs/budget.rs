//! What the guest of a machine can make its file servers hold, all of them together.
//!
//! A guest decides by itself what it remembers and keeps open, and a hostile one never gives
//! anything back; so the limits are of what this process can spare, not of what a guest needs.
//! They are the machine's and not each share's, since a machine may have seventeen: a guest that
//! spends all on one share has none left for its others, which harms nobody else. At worst,
//!
//! ```text
//! nodes           262,144 of 80 bytes                                 20 MiB
//! long names      8 MiB, and the allocator's rounding                 13 MiB
//! open files      32,768 of 100 bytes, and as many descriptors         3 MiB
//! 17 shares' caches and buffers, which have limits of their own       16 MiB
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};

/// Nodes: 64 bytes, and up to 16 in the index and the list of free ones. A guest
/// spends over 1 KiB on each file in its caches, so that one of 256 MiB is short of memory, and
/// gives nodes back, before it gets here. A larger one may remember this many files, five times
/// those of a large closure.
const NODES_MAX: usize = 1 << 18;

/// Bytes of names too long for their nodes: 32 for each node, where nearly all need none.
const LONG_NAMES_BYTES_MAX: usize = 8 << 20;

/// Files of changing shares held open: a guest's programs have by default 1,024 each.
const HANDLES_MAX: usize = 1 << 15;

/// What is left for the shares of one machine.
pub struct Budget {
    pub(super) nodes: Count,
    pub(super) long_names_bytes: Count,
    pub(super) handles: Count,
}

impl Budget {
    pub(super) fn new(nodes: usize, long_names_bytes: usize, handles: usize) -> Self {
        Self {
            nodes: Count::new(nodes),
            long_names_bytes: Count::new(long_names_bytes),
            handles: Count::new(handles),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(NODES_MAX, LONG_NAMES_BYTES_MAX, HANDLES_MAX)
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

    /// Gives back what was taken.
    pub fn give_back(&self, taken: usize) {
        self.0.fetch_add(taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
