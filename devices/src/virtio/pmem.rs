//! virtio-pmem (virtio 1.2 §5.19): memory of the host's that the guest has as a disk.
//!
//! The one thing to know: the device only says where that memory is. What it holds, and that the guest
//! cannot write to it, is the matter of who maps it there; so all that the queue can be asked for, to
//! flush what was written, is done at once.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::{Chain, Device, Facts, Fault, Handler, Queue};
use crate::Memory;

/// Device type, §5.19.1.
const ID: u32 = 27;

/// Linux has one request in flight.
const QUEUE_SIZE: u16 = 16;

/// `VIRTIO_PMEM_REQ_TYPE_FLUSH` (§5.19.6).
const FLUSH: u32 = 0;

/// What a request comes to, §5.19.6.
const DONE: u32 = 0;
const FAILED: u32 = u32::MAX;

/// Configuration space, §5.19.4.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Config {
    start: U64,
    size: U64,
}

/// Read-only memory that a guest finds at `gpa`, `bytes` of it: both of whole blocks of 2 MiB, as
/// Linux adds memory.
pub fn open(memory: &Memory, gpa: u64, bytes: u64) -> Device {
    let config = Config {
        start: gpa.into(),
        size: bytes.into(),
    };
    let facts = Facts {
        id: ID,
        name: "pmem".into(),
        features: 0,
        queue_sizes: vec![QUEUE_SIZE],
        config: config.as_bytes().into(),
    };
    let chain = Chain::new(memory);
    Device::of_one_part(facts, Pmem { chain })
}

struct Pmem {
    chain: Chain,
}

impl Handler for Pmem {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        for _ in 0..QUEUE_SIZE {
            if !queue.pop(&mut self.chain)? {
                break;
            }
            self.answer()?;
            queue.push(&self.chain, self.chain.writable.consumed_bytes())?;
        }
        Ok(())
    }
}

impl Pmem {
    fn answer(&mut self) -> Result<(), Fault> {
        let Chain {
            readable, writable, ..
        } = &mut self.chain;
        if readable.remaining_bytes() < size_of::<U32>() {
            return Err(Fault::Guest("a request of pmem is too short"));
        }
        if writable.remaining_bytes() < size_of::<U32>() {
            return Err(Fault::Guest("a request of pmem has no room for its answer"));
        }
        let kind: U32 = readable.read_object()?;
        let answer = if kind.get() == FLUSH { DONE } else { FAILED };
        writable.write(&answer.to_le_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::fake::{Driver, HOLE};

    const GPA: u64 = 5 << 30;
    const BYTES: u64 = 6 << 20;

    fn driver() -> Driver {
        Driver::start(|memory| open(memory, GPA, BYTES))
    }

    /// Asks for something, with that much room, and tells what was written there.
    fn ask(driver: &mut Driver, kind: u32, room: u32) -> Vec<u8> {
        let page = driver.page();
        driver.write(page, &kind.to_le_bytes());
        driver.write(page + 64, &[9; 16]);
        driver.submit(0, &[(page, 4)], &[(page + 64, room)]);
        let written = driver.completed(0).written_bytes;
        assert_eq!(written, 4);
        driver.read(page + 64, 8)
    }

    #[test]
    fn the_driver_is_told_where_the_memory_is() {
        let driver = driver();
        let config = |offset: u64| u64::from(driver.register(0x100 + offset));
        assert_eq!(config(0) | config(4) << 32, GPA);
        assert_eq!(config(8) | config(12) << 32, BYTES);
    }

    #[test]
    fn what_is_read_only_is_flushed_at_once() {
        let mut driver = driver();
        assert_eq!(ask(&mut driver, FLUSH, 4), [0, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!(ask(&mut driver, FLUSH, 8), [0, 0, 0, 0, 9, 9, 9, 9]);
    }

    #[test]
    fn there_is_nothing_else_to_ask_for() {
        let mut driver = driver();
        for kind in [1, 2, 1 << 31, u32::MAX] {
            let answer = ask(&mut driver, kind, 4);
            assert_eq!(answer[..4], [0xff; 4], "{kind}");
        }
        assert_eq!(ask(&mut driver, FLUSH, 4)[..4], [0; 4]);
    }

    /// What cannot be answered stops the device until it is reset.
    fn stops(readable: &[(u64, u32)], writable: &[(u64, u32)]) {
        let mut driver = driver();
        driver.submit(0, readable, writable);
        driver.faulted();
        driver.reset();
        driver.bring_up();
        assert_eq!(ask(&mut driver, FLUSH, 4)[..4], [0; 4]);
    }

    #[test]
    fn requests_that_are_none_stop_it() {
        let page = 2 << 20;
        stops(&[], &[(page, 4)]);
        stops(&[(page, 3)], &[(page, 4)]);
        stops(&[(page, 4)], &[]);
        stops(&[(page, 4)], &[(page, 3)]);
    }

    #[test]
    fn requests_where_it_does_not_reach_come_back_undone() {
        let page = 2 << 20;
        let mut driver = driver();
        // Its own memory is none that devices reach.
        for outside in [HOLE, GPA] {
            for (readable, writable) in [(outside, page), (page, outside)] {
                driver.submit(0, &[(readable, 4)], &[(writable, 4)]);
                assert_eq!(driver.completed(0).written_bytes, 0);
            }
        }
        assert_eq!(ask(&mut driver, FLUSH, 4)[..4], [0; 4]);
    }

    #[test]
    fn a_chain_without_end_stops_it() {
        let mut driver = driver();
        driver.set_descriptor(0, 0, 2 << 20, 4, 1, 1);
        driver.set_descriptor(0, 1, 2 << 20, 4, 1, 0);
        driver.offer(0, 0);
        driver.faulted();
    }

    #[test]
    fn kicks_without_requests_change_nothing() {
        let mut driver = driver();
        for _ in 0..1000 {
            driver.set_register(0x50, 0);
        }
        assert_eq!(ask(&mut driver, FLUSH, 4)[..4], [0; 4]);
        assert_eq!(driver.used_index(0), 1);
    }
}
