//! What a guest asked of a disk.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one disk, read by the monitor while the workers count.
#[derive(Debug, Default)]
pub struct Counters {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
}

impl Counters {
    /// Bytes that the guest wanted to read.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the guest wanted to write.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Flushes that it asked for.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    pub(super) fn count_read(&self, bytes: usize) {
        add(&self.read_bytes, bytes);
    }

    pub(super) fn count_write(&self, bytes: usize) {
        add(&self.written_bytes, bytes);
    }

    pub(super) fn count_flush(&self) {
        add(&self.flushes, 1);
    }
}

fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
}
