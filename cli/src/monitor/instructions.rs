//! How many instructions a guest carries out, where the host's processor counts them and this user may
//! ask (`perf_event_open(2)`).
//!
//! The one thing to know: a counter counts for the threads that its thread starts later, so it is there
//! before the vCPUs are.

use perf_event::Builder;
use perf_event::events::{Event, Hardware};

/// A counter that runs.
pub struct Instructions(perf_event::Counter);

impl Instructions {
    /// Counts from now on what guests do, of all threads that this one starts.
    pub fn begin() -> Option<Self> {
        begin(Hardware::INSTRUCTIONS, true)
    }

    /// How many so far; none if the host cannot say any more.
    pub fn count(&mut self) -> Option<u64> {
        self.0.read().ok()
    }
}

fn begin(event: impl Event, of_guests_alone: bool) -> Option<Instructions> {
    Builder::new(event)
        .observe_self()
        .any_cpu()
        .inherit(true)
        .include_kernel()
        .exclude_host(of_guests_alone)
        .enabled(true)
        .build()
        .ok()
        .map(Instructions)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use perf_event::events::Software;

    use super::*;

    #[test]
    fn what_later_threads_do_is_counted_while_they_live() {
        // Of this process itself, since the host may have no counter of instructions. Some hosts let
        // nobody count.
        let Some(mut counter) = begin(Software::TASK_CLOCK, false) else {
            return;
        };
        let before = counter.count().unwrap();
        let seen =
            thread::spawn(|| thread::spawn(|| (0..1_000_000u64).fold(1, |a, b| a ^ b)).join());
        assert_eq!(
            seen.join().unwrap().unwrap(),
            (0..1_000_000).fold(1, |a, b| a ^ b)
        );
        assert!(counter.count().unwrap() > before);
    }
}
