//! What a share was asked: requests by kind, and limits that were met.
//!
//! Counting is the proof of the promise that a warm start of a program costs no request at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::wire::opcode;

/// One counter for each request number, and one for all others.
const COUNTERS: usize = opcode::END as usize + 1;

/// Counters of one share, read by the monitor while the workers count.
pub struct Counters {
    requests: [AtomicU64; COUNTERS],
    replied_bytes: AtomicU64,
    is_timed: AtomicBool,
    busy_nanoseconds: AtomicU64,
    nodes_refused: AtomicU64,
    handles_refused: AtomicU64,
    mappings: AtomicU64,
    mappings_refused: AtomicU64,
    is_window_unused: AtomicBool,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; COUNTERS],
            replied_bytes: AtomicU64::new(0),
            is_timed: AtomicBool::new(false),
            busy_nanoseconds: AtomicU64::new(0),
            nodes_refused: AtomicU64::new(0),
            handles_refused: AtomicU64::new(0),
            mappings: AtomicU64::new(0),
            mappings_refused: AtomicU64::new(0),
            is_window_unused: AtomicBool::new(false),
        }
    }
}

impl Counters {
    /// Requests so far, by name (`"LOOKUP"`), without those that were never made. Numbers that
    /// the protocol does not have are `"unknown"` together.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        let mut requests = BTreeMap::new();
        for (number, count) in (0u32..).zip(&self.requests) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let sum: &mut u64 = requests
                    .entry(opcode::name(number).unwrap_or("unknown"))
                    .or_default();
                *sum = sum.saturating_add(count);
            }
        }
        requests
    }

    /// Requests of every kind so far.
    pub fn requests(&self) -> u64 {
        self.requests
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add)
    }

    /// Bytes of all replies, headers included.
    pub fn replied_bytes(&self) -> u64 {
        self.replied_bytes.load(Ordering::Relaxed)
    }

    /// Has the time of requests counted from now on: to look at the clock is a system call on some hosts.
    pub fn start_timing(&self) {
        self.is_timed.store(true, Ordering::Relaxed);
    }

    /// How long all workers together were at work on requests, since that is counted.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanoseconds.load(Ordering::Relaxed))
    }

    /// Names that got no node because the node table was full.
    pub fn nodes_refused(&self) -> u64 {
        self.nodes_refused.load(Ordering::Relaxed)
    }

    /// Files that were not opened because the guest, or the host, has too many open.
    pub fn handles_refused(&self) -> u64 {
        self.handles_refused.load(Ordering::Relaxed)
    }

    /// Units of the DAX window that hold a piece of a file now.
    pub fn mappings(&self) -> u64 {
        self.mappings.load(Ordering::Relaxed)
    }

    /// Pieces of files that the host did not map.
    pub fn mappings_refused(&self) -> u64 {
        self.mappings_refused.load(Ordering::Relaxed)
    }

    /// Whether there is a DAX window that the guest's kernel has no use for; not so until it has said that.
    pub fn is_window_unused(&self) -> bool {
        self.is_window_unused.load(Ordering::Relaxed)
    }

    pub(super) fn count_request(&self, number: u32) {
        let index = number.min(opcode::END) as usize;
        if let Some(count) = self.requests.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_reply(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.replied_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Carries a request out, and counts its time.
    pub(super) fn time<T>(&self, carry_out: impl FnOnce() -> T) -> T {
        if !self.is_timed.load(Ordering::Relaxed) {
            return carry_out();
        }
        let began = Instant::now();
        let done = carry_out();
        self.count_busy(began.elapsed());
        done
    }

    fn count_busy(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn count_node_refused(&self) {
        self.nodes_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_handle_refused(&self) {
        self.handles_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_mappings(&self, units: usize) {
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        self.mappings.store(units, Ordering::Relaxed);
    }

    pub(super) fn set_window_unused(&self, is_unused: bool) {
        self.is_window_unused.store(is_unused, Ordering::Relaxed);
    }

    pub(super) fn count_mapping_refused(&self) {
        self.mappings_refused.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name() {
        let counters = Counters::default();
        for number in [
            opcode::LOOKUP,
            opcode::READ,
            opcode::LOOKUP,
            7,
            4096,
            u32::MAX,
        ] {
            counters.count_request(number);
        }
        let expected = [("LOOKUP", 2), ("READ", 1), ("unknown", 3)];
        assert_eq!(counters.snapshot(), expected.into());
        assert_eq!(counters.requests(), 6);
        counters.count_reply(100);
        counters.count_reply(16);
        assert_eq!(counters.replied_bytes(), 116);
        counters.count_busy(Duration::from_micros(3));
        counters.count_busy(Duration::from_nanos(7));
        assert_eq!(counters.busy(), Duration::from_nanos(3007));
    }

    #[test]
    fn time_is_counted_once_somebody_wants_to_know() {
        let counters = Counters::default();
        let wait = || std::thread::sleep(Duration::from_millis(1));
        counters.time(wait);
        assert_eq!(counters.busy(), Duration::ZERO);
        counters.start_timing();
        counters.time(wait);
        assert_ne!(counters.busy(), Duration::ZERO);
    }
}
