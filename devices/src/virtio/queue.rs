//! A split virtqueue (virtio 1.2 §2.7) as a handler uses it: pop a chain, push it back.
//!
//! The rings are virtio-queue's. A push only records: the worker raises the interrupt when the
//! handler is done, so that no device can forget it and many completions share one.

use std::sync::atomic::Ordering;

use anyhow::{Context, ensure};
use virtio_queue::{Queue as Ring, QueueOwnedT as _, QueueT as _};
use vm_memory::GuestAddress;

use super::{Chain, Fault};
use crate::Memory;

/// What the driver wrote to the registers of a queue, judged when it is done (§4.2.2).
#[derive(Clone, Copy)]
pub(super) struct Registers {
    /// The largest size, in descriptors.
    pub size_max: u16,
    /// The size that the driver wants.
    pub size: u32,
    /// Whether the driver uses the queue.
    pub ready: bool,
    /// Guest-physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest-physical address of the available ring, the "driver area".
    pub available: u64,
    /// Guest-physical address of the used ring, the "device area".
    pub used: u64,
}

impl Registers {
    /// Registers after a reset, of a queue of at most `size_max` descriptors.
    pub fn new(size_max: u16) -> Self {
        Self {
            size_max,
            size: size_max.into(),
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    /// The ring that they describe.
    ///
    /// # Errors
    /// The queue is in use, and its size or the place of its rings is nothing to work with.
    pub fn ring(&self, memory: &Memory, event_idx: bool) -> anyhow::Result<Ring> {
        let mut ring = Ring::new(self.size_max).context("cannot make a queue")?;
        if !self.ready {
            return Ok(ring);
        }
        ring.try_set_size(u16::try_from(self.size).unwrap_or(0))
            .with_context(|| format!("a queue cannot have {} descriptors", self.size))?;
        ring.try_set_desc_table_address(GuestAddress(self.descriptors))
            .and_then(|()| ring.try_set_avail_ring_address(GuestAddress(self.available)))
            .and_then(|()| ring.try_set_used_ring_address(GuestAddress(self.used)))
            .context("a queue's rings are misaligned")?;
        ring.set_event_idx(event_idx);
        ring.set_ready(true);
        // virtio-queue takes an available ring at zero for one that was never set.
        ensure!(
            self.available != 0 && ring.is_valid(&**memory),
            "a queue's rings lie outside guest memory"
        );
        Ok(ring)
    }
}

/// A queue as its driver set it up. One that the driver did not enable is always empty.
pub struct Queue {
    ring: Ring,
    memory: Memory,
    /// The handler leaves what is available where it is.
    parked: bool,
    /// Chains were given back since the driver was last told.
    pushed: bool,
}

impl Queue {
    /// Takes over a ring that the transport has found valid.
    pub(super) fn new(ring: Ring, memory: Memory) -> Self {
        Self {
            ring,
            memory,
            parked: false,
            pushed: false,
        }
    }

    /// A chain that [`Queue::pop`] can fill.
    pub fn chain(&self) -> Chain {
        Chain::new(&self.memory)
    }

    /// Takes the next available chain that lies in guest memory; false when there is none. Others go back to
    /// the driver as they are, for a device that has no other way to say that it failed.
    ///
    /// # Errors
    /// As [`Queue::pop_any`].
    pub fn pop(&mut self, chain: &mut Chain) -> Result<bool, Fault> {
        // A driver can make more of them as fast as they go back.
        for _ in 0..self.ring.size() {
            if !self.pop_any(chain)? {
                return Ok(false);
            }
            if chain.is_reachable() {
                return Ok(true);
            }
            self.push(chain, 0)?;
        }
        Ok(false)
    }

    /// Takes the next available chain; false when there is none. A part of it may be where no device reaches
    /// ([`Chain::is_reachable`]), which its device has to answer.
    ///
    /// # Errors
    /// The available index jumped by more than the queue holds, or the chain is malformed.
    pub fn pop_any(&mut self, chain: &mut Chain) -> Result<bool, Fault> {
        self.parked = false;
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

    /// Whether [`Queue::pop`] would find one.
    pub fn is_available(&self) -> bool {
        let index = self.ring.avail_idx(&*self.memory, Ordering::Acquire);
        self.ring.ready() && index.is_ok_and(|index| index.0 != self.ring.next_avail())
    }

    /// Gives a chain back to the driver, of which the device wrote `written_bytes`.
    ///
    /// # Errors
    /// The used ring left guest memory.
    pub fn push(&mut self, chain: &Chain, written_bytes: usize) -> Result<(), Fault> {
        let written = u32::try_from(written_bytes).unwrap_or(u32::MAX);
        self.pushed = true;
        self.ring
            .add_used(&*self.memory, chain.head(), written)
            .map_err(|_| Fault::Guest("a chain's head lies outside its queue"))
    }

    /// Puts the chain popped last back, and parks the queue.
    pub fn unpop(&mut self) {
        self.ring.go_to_previous_position();
        self.park();
    }

    /// Leaves what is available where it is: the handler pops it when its host descriptor is
    /// ready, and until then is not kicked for it again and again.
    pub fn park(&mut self) {
        self.parked = true;
    }

    /// Whether the driver wants an interrupt for what was pushed since the last call (§2.7.7).
    pub(super) fn needs_interrupt(&mut self) -> Result<bool, Fault> {
        if !std::mem::take(&mut self.pushed) {
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

    /// Asks for kicks again unless the queue is parked; true when chains are available already.
    pub(super) fn enable_kicks(&mut self) -> Result<bool, Fault> {
        if self.parked || !self.ring.ready() {
            return Ok(false);
        }
        self.ring
            .enable_notification(&*self.memory)
            .map_err(|_| Fault::Guest("the used ring left guest memory"))
    }
}

#[cfg(test)]
mod tests;
