//! virtio-balloon (virtio 1.2 §5.5): memory that the guest does not use goes back to the host.
//!
//! The guest's kernel reports what it has freed, in large blocks and two seconds after (Linux'
//! `page_reporting.c`), and the host takes those pages back; the guest gets new ones by
//! touching them. The classical balloon, by which a host asks for memory, works too, and is asked
//! for nothing: its target is fixed.
//!
//! What the guest wrote to a reported page is lost, be it part of the kernel's mapped file: that
//! then reads as the file has it. The guest says that it does not need the content, and a lie harms
//! its own memory alone.
//!
//! Left out: statistics, free page hints (for migration), poisoned pages.

mod release;

use vm_memory::GuestAddress;

use super::{Chain, Device, Facts, Fault, Handler, Queue};
use crate::Memory;
use release::{PAGE_BYTES, release};

/// Device type, §5.5.1.
const ID: u32 = 5;

/// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM` and `VIRTIO_BALLOON_F_PAGE_REPORTING` (§5.5.3).
const DEFLATE_ON_OOM: u64 = 1 << 2;
const PAGE_REPORTING: u64 = 1 << 5;

/// Queues, §5.5.2, of which those that are not offered are not counted either.
const INFLATE: usize = 0;
const REPORTING: usize = 2;
const QUEUES: usize = 3;

/// Linux has one request in flight, and at most [`RANGES_MAX`] ranges in it.
const QUEUE_SIZE: u16 = 32;

/// Ranges of one report (`PAGE_REPORTING_CAPACITY` of Linux); the guest keeps what goes beyond.
const RANGES_MAX: usize = 32;

/// Pages of one request (`VIRTIO_BALLOON_ARRAY_PFNS_MAX` of Linux).
const PAGES_MAX: usize = 256;

/// The balloon of a guest with that memory.
pub fn open(memory: &Memory) -> Device {
    let facts = Facts {
        id: ID,
        name: "balloon".into(),
        features: DEFLATE_ON_OOM | PAGE_REPORTING,
        queue_sizes: vec![QUEUE_SIZE; QUEUES],
        // `num_pages`, the target: none. `actual`, which the driver writes, is of no use then.
        config: vec![0; 8],
    };
    let balloon = Balloon {
        memory: memory.clone(),
        chain: Chain::new(memory),
    };
    Device::of_one_part(facts, balloon)
}

struct Balloon {
    memory: Memory,
    chain: Chain,
}

impl Handler for Balloon {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        for _ in 0..QUEUE_SIZE {
            if !queue.pop(&mut self.chain)? {
                break;
            }
            match index {
                INFLATE => self.inflate()?,
                REPORTING => self.take_reported()?,
                // Deflated pages come back when they are touched.
                _ => {}
            }
            // The device writes nothing, least of all to pages that have just gone.
            queue.push(&self.chain, 0)?;
        }
        Ok(())
    }
}

impl Balloon {
    /// Numbers of pages of 4 KiB (§5.5.6). What is no memory is ignored, as in QEMU.
    fn inflate(&mut self) -> Result<(), Fault> {
        let mut numbers = [0; 4 * PAGES_MAX];
        let read = self.chain.readable.read(&mut numbers)?;
        let numbers = numbers.get(..read).unwrap_or_default();
        for number in numbers.as_chunks().0 {
            let number = u64::from(u32::from_le_bytes(*number));
            let gpa = GuestAddress(number.saturating_mul(PAGE_BYTES));
            release(&self.memory, gpa, PAGE_BYTES)?;
        }
        Ok(())
    }

    /// The buffers themselves are what is reported (§5.5.6.7).
    fn take_reported(&mut self) -> Result<(), Fault> {
        for (gpa, bytes) in self.chain.writable.segments().take(RANGES_MAX) {
            release(&self.memory, gpa, bytes as u64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
