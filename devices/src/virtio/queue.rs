//! A split virtqueue (virtio 1.2 §2.7) as a handler uses it: pop a chain, push it back.
//!
//! The rings are virtio-queue's. A push only records: the worker raises the interrupt when the
//! handler is done, so that no device can forget it and many completions share one.

use virtio_queue::{Queue as Ring, QueueOwnedT as _, QueueT as _};

use super::{Chain, Fault};
use crate::Memory;

/// A queue as its driver set it up. One that the driver did not enable is always empty.
pub struct Queue {
    ring: Ring,
    memory: Memory,
}

impl Queue {
    /// Takes over a ring that the transport has found valid.
    pub(super) fn new(ring: Ring, memory: Memory) -> Self {
        Self { ring, memory }
    }

    /// A chain that [`Queue::pop`] can fill.
    pub fn chain(&self) -> Chain {
        Chain::new(&self.memory)
    }

    /// Takes the next available chain; false when there is none.
    ///
    /// # Errors
    /// The available index jumped by more than the queue holds, or the chain is malformed.
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, Fault> {
        if !self.ring.ready() {
            return Ok(false);
        }
        let memory: &vm_memory::GuestMemoryMmap = &self.memory;
        let next = self
            .ring
            .iter(memory)
            .map_err(|_| Fault::Guest("the available index jumped (§2.7.13.3)"))?
            .next();
        match next {
            Some(descriptors) => chain.fill(descriptors).map(|()| true),
            None => Ok(false),
        }
    }

    /// Gives a chain back to the driver, of which the device wrote `written_bytes`.
    ///
    /// # Errors
    /// The used ring left guest memory.
    pub fn push(&mut self, chain: &Chain, written_bytes: usize) -> Result<(), Fault> {
        let written = u32::try_from(written_bytes).unwrap_or(u32::MAX);
        self.ring
            .add_used(&*self.memory, chain.head(), written)
            .map_err(|_| Fault::Guest("a chain's head lies outside its queue"))
    }

    /// Puts the chain popped last back, to be popped again.
    pub fn unpop(&mut self) {
        self.ring.go_to_previous_position();
    }

    /// Whether the driver wants an interrupt for what was pushed since the last call (§2.7.7).
    pub(super) fn needs_interrupt(&mut self) -> Result<bool, Fault> {
        if !self.ring.ready() {
            return Ok(false);
        }
        self.ring
            .needs_notification(&*self.memory)
            .map_err(|_| Fault::Guest("the available ring left guest memory"))
    }

    /// Asks the driver for no kicks while the queue is being served.
    pub(super) fn disable_kicks(&mut self) -> Result<(), Fault> {
        if !self.ring.ready() {
            return Ok(());
        }
        self.ring
            .disable_notification(&*self.memory)
            .map_err(|_| Fault::Guest("the used ring left guest memory"))
    }

    /// Asks for kicks again; true when chains became available meanwhile.
    pub(super) fn enable_kicks(&mut self) -> Result<bool, Fault> {
        if !self.ring.ready() {
            return Ok(false);
        }
        self.ring
            .enable_notification(&*self.memory)
            .map_err(|_| Fault::Guest("the used ring left guest memory"))
    }
}
