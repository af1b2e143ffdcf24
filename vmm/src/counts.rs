//! How often a virtual CPU has left the guest, by reason: what each costs is some microseconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why it left (`KVM_EXIT_*`), as far as that tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A read from a port.
    PortRead,
    /// A write to a port.
    PortWrite,
    /// A read from an address that is not memory.
    MemoryRead,
    /// A write to an address that is not memory, and that no eventfd takes.
    MemoryWrite,
    /// The guest has nothing to do, and KVM does not wait itself.
    Halt,
    /// A signal.
    Interruption,
    /// All others: an interrupt window, and each end of the machine.
    Other,
}

/// Each with its name, in the order of the enumeration.
const NAMES: [(Reason, &str); 7] = [
    (Reason::PortRead, "port-read"),
    (Reason::PortWrite, "port-write"),
    (Reason::MemoryRead, "memory-read"),
    (Reason::MemoryWrite, "memory-write"),
    (Reason::Halt, "halt"),
    (Reason::Interruption, "interruption"),
    (Reason::Other, "other"),
];

/// Counters of one vCPU, which alone counts; from any thread they can be read.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; NAMES.len()]);

impl Counts {
    /// Counts one exit.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All exits so far.
    pub fn total(&self) -> u64 {
        let values = self.0.iter().map(|value| value.load(Ordering::Relaxed));
        values.sum()
    }

    /// Exits so far, by the names of the reasons.
    pub fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        let value = |(reason, name): (Reason, &'static str)| {
            (name, self.0[reason as usize].load(Ordering::Relaxed))
        };
        NAMES.map(value).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counts = Counts::default();
        for (number, (reason, _)) in NAMES.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            for _ in 0..=number {
                counts.count(reason);
            }
        }
        let values: Vec<_> = NAMES.map(|(_, name)| counts.snapshot()[name]).into();
        assert_eq!(values, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(counts.total(), 28);
    }
}
