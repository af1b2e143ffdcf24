//! Which device answers at which port or address.
//!
//! Four things answer: the serial port, the power registers, and the windows of the virtio
//! devices. Everything else reads as all ones and ignores what is written, as on a PC.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use devices::power;
use devices::serial::{self, Serial};
use devices::virtio::mmio::{Mmio, WINDOW_BYTES};

use crate::layout;

/// The devices that vCPUs can reach. A vCPU locks one for the length of one access.
pub struct Bus {
    serial: Mutex<Serial>,
    virtio: Vec<Mutex<Mmio>>,
}

impl Bus {
    /// A bus with a serial port and virtio devices, the latter in the order of their windows.
    pub fn new(serial: Serial, virtio: Vec<Mmio>) -> Self {
        Self {
            serial: Mutex::new(serial),
            virtio: virtio.into_iter().map(Mutex::new).collect(),
        }
    }

    /// `in` from `port`.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let (Some(offset), [byte]) = (serial_register(port), data) {
            *byte = lock(&self.serial).read(offset);
        }
    }

    /// `out` to `port`; what it asks of the machine, if anything.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<power::Request> {
        let &[byte] = data else { return None };
        if let Some(offset) = serial_register(port) {
            lock(&self.serial).write(offset, byte);
        }
        power::write(port, byte)
    }

    /// A load from `gpa`, which is not memory.
    pub fn read(&self, gpa: u64, data: &mut [u8]) {
        match self.window(gpa) {
            Some((device, offset)) => lock(device).read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A store to `gpa`, which is not memory.
    pub fn write(&self, gpa: u64, data: &[u8]) {
        if let Some((device, offset)) = self.window(gpa) {
            lock(device).write(offset, data);
        }
    }

    /// Has new threads go on with what those of the virtio device `index` do.
    ///
    /// # Errors
    /// There is none, or as [`Mmio::renew`].
    pub fn renew(&self, index: usize) -> anyhow::Result<()> {
        let device = self.virtio.get(index).context("there is no such device")?;
        lock(device).renew()
    }

    fn window(&self, gpa: u64) -> Option<(&Mutex<Mmio>, u64)> {
        let distance = gpa.checked_sub(layout::VIRTIO_MMIO)?;
        let index = usize::try_from(distance / WINDOW_BYTES).ok()?;
        Some((self.virtio.get(index)?, distance % WINDOW_BYTES))
    }
}

fn serial_register(port: u16) -> Option<u8> {
    let offset = port.checked_sub(serial::PORT)?;
    (offset < serial::PORTS).then_some(offset as u8)
}

/// A panic while a device was locked is a bug of ours; its registers are plain data, so that the
/// other vCPUs can go on all the same.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    fn bus() -> Bus {
        let line = EventFd::new(0).unwrap();
        let serial = Serial::new(line, Box::new(std::io::sink()), Arc::default());
        Bus::new(serial, Vec::new())
    }

    #[test]
    fn nothing_answers_where_there_is_nothing() {
        let bus = bus();
        let mut data = [0; 8];
        bus.read(0xfed0_0000, &mut data);
        assert_eq!(data, [0xff; 8]);
    }

    #[test]
    fn every_port_takes_every_width() {
        let bus = bus();
        for port in 0..=u16::MAX {
            for width in [1, 2, 4] {
                let mut data = vec![0; width];
                bus.port_read(port, &mut data);
                bus.port_write(port, &vec![0; width]);
            }
        }
    }
}
