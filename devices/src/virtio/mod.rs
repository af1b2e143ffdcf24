//! Virtio devices (virtio 1.2), and what they have in common.
//!
//! A [`Device`] is a value: the facts its driver reads, and its parts, each served by one worker
//! thread that owns it. The transport ([`mmio`]) checks features, queue addresses and status;
//! the [`worker`] owns epoll, kicks and interrupts. A [`Handler`] therefore sees no register, no
//! lock and no other thread.

pub mod balloon;
pub mod blk;
pub mod chain;
mod config;
pub mod console;
#[cfg(any(test, feature = "fake-driver"))]
pub mod fake;
pub mod fs;
pub mod interrupt;
mod iovec;
pub mod mmio;
pub mod net;
pub mod pmem;
pub mod queue;
pub mod rate_limiter;
pub mod region;
pub mod rng;
pub mod roster;
pub mod vsock;
pub mod worker;

use std::fmt;
use std::ops::Range;
use std::os::fd::RawFd;

pub use chain::{Buffers, Chain};
pub use iovec::Position;
pub use queue::Queue;
use vmm_sys_util::epoll::EventSet;

/// What a driver reads of a device before it starts it. All but `config` stays as it is, so it is
/// data.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Device type, virtio 1.2 §5.
    pub id: u32,
    /// Names the worker threads and log lines, at most 12 bytes of it.
    pub name: String,
    /// The device's own feature bits (§2.2); the transport adds its own.
    pub features: u64,
    /// The largest size of each queue, in descriptors: powers of two.
    pub queue_sizes: Vec<u16>,
    /// Device configuration space, little endian, as it is at first.
    pub config: Vec<u8>,
}

/// A virtio device before its driver starts it.
pub struct Device {
    /// What its driver reads.
    pub facts: Facts,
    /// What serves its queues.
    pub parts: Vec<Part>,
}

impl Device {
    /// A device all of whose queues `handler` serves.
    pub fn of_one_part(facts: Facts, handler: impl Handler + 'static) -> Self {
        let part = Part {
            queues: 0..facts.queue_sizes.len(),
            handler: Box::new(handler),
        };
        let parts = vec![part];
        Self { facts, parts }
    }
}

/// A part of a device, with a worker thread of its own.
pub struct Part {
    /// The queues of the device that it serves.
    pub queues: Range<usize>,
    /// The code that serves them.
    pub handler: Box<dyn Handler>,
}

/// The behaviour of a device, or of a part of one.
///
/// ```text
/// new ──start──▶ running ──stop──▶ new        a reset is `stop`, a later DRIVER_OK is `start`
/// ```
pub trait Handler: Send {
    /// The driver set `DRIVER_OK` and had accepted `features` (§2.2): some of the device's own and
    /// of the transport's. Called first, on the worker's thread.
    fn start(&mut self, _features: u64) -> anyhow::Result<()> {
        Ok(())
    }

    /// Buffers are available in `queues[index]`, counted within the part. Called again and again
    /// until there are none, or the handler has parked the queue. Serves a bounded number of them:
    /// a driver can refill a queue as fast as it is emptied.
    ///
    /// # Errors
    /// A [`Fault`] puts the device into `DEVICE_NEEDS_RESET`.
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault>;

    /// Host descriptors to wait for, asked for again after each call.
    fn watch(&self) -> Vec<Watch> {
        Vec::new()
    }

    /// The `index`-th descriptor of [`Handler::watch`] is ready.
    ///
    /// # Errors
    /// As [`Handler::kick`].
    fn ready(&mut self, _index: usize, _queues: &mut [Queue]) -> Result<(), Fault> {
        Ok(())
    }

    /// The device's configuration space, where it has changed since the last call. Asked for after
    /// each call; the worker tells the driver (§2.5). Of one size as long as the device lives.
    fn changed_config(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// The driver reset the device. No guest buffer is held after this returns.
    fn stop(&mut self) {}
}

/// A host descriptor that a handler waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Open as long as the handler lives.
    pub fd: RawFd,
    /// What to wait for. Empty: nothing for the moment.
    pub events: EventSet,
}

/// Why a device stops serving its driver until it is reset (§2.1, `DEVICE_NEEDS_RESET`).
#[derive(Debug)]
pub enum Fault {
    /// The guest broke the protocol.
    Guest(&'static str),
    /// The host's side of the device failed.
    Host(anyhow::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(what) => write!(f, "the guest's driver broke the protocol: {what}"),
            Self::Host(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Host(error)
    }
}
