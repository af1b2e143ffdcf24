//! virtio-rng: entropy for the guest (virtio 1.2 §5.4).
//!
//! One queue of device-writable buffers, each filled from the host's random source.

use rustix::rand::{GetRandomFlags, getrandom};

use super::{Chain, Device, Facts, Fault, Handler, Queue};
use crate::Memory;

/// Bytes of one request. A chain may name one page many times, so that a request costs the guest
/// far less memory than it asks the host for; Linux asks for 64 bytes at a time.
const REQUEST_BYTES_MAX: usize = 4096;

/// Linux has one request in flight.
const QUEUE_SIZE: u16 = 16;

/// The entropy device.
pub fn open(memory: &Memory) -> Device {
    let facts = Facts {
        id: 4,
        name: "rng".into(),
        features: 0,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
    };
    let chain = Chain::new(memory);
    Device::of_one_part(facts, Rng { chain })
}

struct Rng {
    chain: Chain,
}

impl Handler for Rng {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        let mut bytes = [0; REQUEST_BYTES_MAX];
        for _ in 0..QUEUE_SIZE {
            if !queue.pop(&mut self.chain)? {
                break;
            }
            let writable = &mut self.chain.writable;
            let wanted = writable.remaining_bytes().min(REQUEST_BYTES_MAX);
            let bytes = bytes.get_mut(..wanted).unwrap_or_default();
            let filled = getrandom(&mut *bytes, GetRandomFlags::empty()).map_err(|error| {
                Fault::Host(anyhow::Error::new(error).context("cannot get entropy"))
            })?;
            writable.write(bytes.get(..filled).unwrap_or_default())?;
            queue.push(&self.chain, self.chain.writable.consumed_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::fake::{Driver, HOLE};

    #[test]
    fn fills_what_the_driver_gives() {
        let mut driver = Driver::start(open);
        let page = driver.page();
        driver.submit(0, &[], &[(page, 64)]);
        assert_eq!(driver.completed(0).written_bytes, 64);
        assert_ne!(driver.read(page, 64), [0; 64]);
    }

    #[test]
    fn one_request_is_bounded() {
        let mut driver = Driver::start(open);
        let page = driver.page();
        driver.submit(0, &[], &[(page, 4096), (page, 4096), (page, 4096)]);
        assert_eq!(
            driver.completed(0).written_bytes as usize,
            REQUEST_BYTES_MAX
        );
    }

    #[test]
    fn a_request_where_the_device_does_not_reach_completes_empty() {
        let mut driver = Driver::start(open);
        let page = driver.page();
        driver.submit(0, &[], &[(page, 64), (HOLE, 64)]);
        assert_eq!(driver.completed(0).written_bytes, 0);
        assert_eq!(driver.read(page, 64), [0; 64]);
        driver.submit(0, &[], &[(page, 64)]);
        assert_eq!(driver.completed(0).written_bytes, 64);
    }

    #[test]
    fn a_request_without_room_completes_empty() {
        let mut driver = Driver::start(open);
        let page = driver.page();
        driver.submit(0, &[(page, 16)], &[]);
        assert_eq!(driver.completed(0).written_bytes, 0);
    }
}
