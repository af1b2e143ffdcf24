//! A device's configuration space (virtio 1.2 §2.5), which its worker changes while the driver
//! reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The configuration space, shared by a transport and its workers.
#[derive(Clone, Debug)]
pub struct Config(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    /// Differs after each change, so that a driver knows what it read in pieces for one whole.
    generation: u32,
}

impl Config {
    /// A space that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes,
            generation: 0,
        })))
    }

    /// The driver reads at `offset`; behind the end there are zeros.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let state = self.lock();
        let bytes = state.bytes.get(start..).unwrap_or_default();
        let padded = bytes.iter().copied().chain(std::iter::repeat(0));
        for (to, from) in data.iter_mut().zip(padded) {
            *to = from;
        }
    }

    /// `ConfigGeneration` (§4.2.2).
    pub fn generation(&self) -> u32 {
        self.lock().generation
    }

    /// Replaces the whole.
    pub fn set(&self, bytes: Vec<u8>) {
        let mut state = self.lock();
        state.bytes = bytes;
        state.generation = state.generation.wrapping_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
