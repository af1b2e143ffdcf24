//! A device's interrupt line (virtio-mmio, virtio 1.2 §4.2.2: `InterruptStatus`, `InterruptACK`).
//!
//! Raised through an eventfd that the hypervisor turns into the interrupt, so that no vCPU has to
//! leave the guest for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// The device used a buffer (`VIRTIO_MMIO_INT_VRING`).
const USED_BUFFER: u32 = 1;
/// The configuration changed (`VIRTIO_MMIO_INT_CONFIG`).
const CONFIG_CHANGE: u32 = 2;

/// An interrupt line, shared by a transport and its workers.
#[derive(Clone)]
pub struct Interrupt {
    status: Arc<AtomicU32>,
    event: Arc<EventFd>,
}

impl Interrupt {
    /// A line that `event` raises.
    pub fn new(event: EventFd) -> Self {
        Self {
            status: Arc::default(),
            event: Arc::new(event),
        }
    }

    /// The device used buffers of a queue.
    pub fn used_buffer(&self) {
        self.raise(USED_BUFFER);
    }

    /// The device's configuration or status changed.
    pub fn config_change(&self) {
        self.raise(CONFIG_CHANGE);
    }

    /// `InterruptStatus`.
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    /// `InterruptACK`.
    pub fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Drops what is pending: the device was reset.
    pub fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
    }

    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        // Fails only when 2^64 - 2 interrupts are pending; then the line is raised anyway.
        let _ = self.event.write(1);
    }
}
