//! Stopping all vCPUs of a machine, and letting them go on.
//!
//! The one thing to know: a vCPU is inside KVM until something happens, so it is interrupted by a
//! signal; and since that may come just before it goes in, it is sent again until the vCPU waits.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// Between two signals to a vCPU.
const SIGNAL_PERIOD: Duration = Duration::from_millis(1);

/// Far longer than any exit takes to be answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// The signal that interrupts a vCPU; nothing else of this process takes a real-time one.
fn signal() -> c_int {
    SIGRTMIN()
}

/// Where vCPUs wait while their machine is paused.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    /// Waits as long as the machine is paused. True if it was.
    pub fn pass(&self) -> bool {
        let mut state = self.state();
        if !state.is_closed {
            return false;
        }
        state.waiting += 1;
        self.changed.notify_all();
        while state.is_closed {
            state = self.wait(state, PATIENCE);
        }
        state.waiting -= 1;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Pauses a machine, from any thread.
pub struct Pause {
    gate: Arc<Gate>,
    vcpus: Vec<JoinHandle<()>>,
    /// Whether it is paused; held by whoever stops the vCPUs or has them go on.
    paused: Mutex<bool>,
}

impl Pause {
    /// Of the vCPUs in these threads, which wait at `gate`.
    pub(crate) fn new(gate: Arc<Gate>, vcpus: Vec<JoinHandle<()>>) -> Self {
        Self {
            gate,
            vcpus,
            paused: Mutex::default(),
        }
    }

    /// Returns when no vCPU runs.
    ///
    /// # Errors
    /// It is paused, or a vCPU does not stop.
    pub fn pause(&self) -> anyhow::Result<()> {
        let mut paused = self.paused();
        ensure!(!*paused, "it is paused already");
        self.close()?;
        *paused = true;
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&self) -> anyhow::Result<()> {
        let mut paused = self.paused();
        ensure!(*paused, "it is not paused");
        self.open();
        *paused = false;
        Ok(())
    }

    /// Does something while no vCPU runs, for a moment in which the machine is not paused for anyone.
    ///
    /// # Errors
    /// A vCPU does not stop, or as `act`.
    pub fn during(&self, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let paused = self.paused();
        if *paused {
            return act();
        }
        self.close()?;
        let done = act();
        self.open();
        done
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        *self.paused()
    }

    fn paused(&self) -> MutexGuard<'_, bool> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> anyhow::Result<()> {
        let mut state = self.gate.state();
        state.is_closed = true;
        let deadline = Instant::now() + PATIENCE;
        while state.waiting < self.vcpus.len() {
            if Instant::now() > deadline {
                state.is_closed = false;
                self.gate.changed.notify_all();
                return Err(anyhow!("a processor does not stop"));
            }
            for vcpu in &self.vcpus {
                vcpu.kill(signal())
                    .context("cannot interrupt a processor")?;
            }
            state = self.gate.wait(state, SIGNAL_PERIOD);
        }
        Ok(())
    }

    fn open(&self) {
        self.gate.state().is_closed = false;
        self.gate.changed.notify_all();
    }
}

/// Has the signal interrupt a system call and do nothing else.
///
/// # Errors
/// The host refuses the handler.
pub(crate) fn take_signal() -> anyhow::Result<()> {
    extern "C" fn nothing(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
    register_signal_handler(signal(), nothing).context("cannot handle a signal")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use super::*;

    /// A thread that sleeps as a vCPU runs.
    fn vcpu(gate: &Arc<Gate>, rounds: &Arc<AtomicU64>, end: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (gate, rounds, end) = (gate.clone(), rounds.clone(), end.clone());
        thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                // Interrupted or not.
                let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
                    tv_sec: 0,
                    tv_nsec: 100_000,
                });
                gate.pass();
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        })
    }

    #[test]
    fn nothing_runs_while_it_is_paused_and_all_goes_on_after() {
        take_signal().unwrap();
        let (gate, rounds, end) = (Arc::new(Gate::default()), Arc::default(), Arc::default());
        let vcpus = (0..3).map(|_| vcpu(&gate, &rounds, &end)).collect();
        let pause = Pause::new(gate, vcpus);
        assert!(pause.resume().is_err());
        pause.pause().unwrap();
        assert!(pause.pause().is_err() && pause.is_paused());
        pause.during(|| Ok(())).unwrap();
        assert!(pause.is_paused());
        let then = rounds.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(rounds.load(Ordering::SeqCst), then);
        pause.resume().unwrap();
        while rounds.load(Ordering::SeqCst) < then + 10 {
            thread::yield_now();
        }
        let error = pause.during(|| Err(anyhow!("no luck"))).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), pause.is_paused()),
            ("no luck", false)
        );
        end.store(true, Ordering::SeqCst);
        for vcpu in pause.vcpus {
            vcpu.join().unwrap();
        }
    }
}
