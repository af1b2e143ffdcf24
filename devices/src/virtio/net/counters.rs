//! What went through a network card.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one card, read by the monitor while the worker counts. A packet is what guest and
/// host hand over at once: one that is still to be cut into several counts once.
#[derive(Debug, Default)]
pub struct Counters {
    received: Direction,
    sent: Direction,
}

#[derive(Debug, Default)]
struct Direction {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Counters {
    /// Bytes that the guest has received, with their Ethernet headers.
    pub fn received_bytes(&self) -> u64 {
        self.received.bytes.load(Ordering::Relaxed)
    }

    /// Packets that the guest has received.
    pub fn received_packets(&self) -> u64 {
        self.received.packets.load(Ordering::Relaxed)
    }

    /// Bytes that the host has taken from the guest, with their Ethernet headers.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.bytes.load(Ordering::Relaxed)
    }

    /// Packets that the host has taken from the guest.
    pub fn sent_packets(&self) -> u64 {
        self.sent.packets.load(Ordering::Relaxed)
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.received.count(bytes);
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.count(bytes);
    }
}

impl Direction {
    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.packets.fetch_add(1, Ordering::Relaxed);
    }
}
