//! The serial port at 0x3f8 (16550): where the kernel's own messages go.
//!
//! The registers are vm-superio's. What the guest writes goes to a sink that never blocks the
//! vCPU for long and never fails towards the guest; input is not offered.

use std::io::Write;

use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// First port of COM1.
pub const PORT: u16 = 0x3f8;
/// Ports of a UART.
pub const PORTS: u16 = 8;
/// Its interrupt, as on every PC.
pub const IRQ: u32 = 4;

struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.write(1)
    }
}

/// A serial port that only speaks.
pub struct Serial(Uart<Line, vm_superio::serial::NoEvents, Box<dyn Write + Send>>);

impl Serial {
    /// A port whose output goes to `sink` and whose interrupt is `line`.
    pub fn new(line: EventFd, sink: Box<dyn Write + Send>) -> Self {
        Self(Uart::new(Line(line), sink))
    }

    /// The guest reads register `offset`.
    pub fn read(&mut self, offset: u8) -> u8 {
        self.0.read(offset)
    }

    /// The guest writes register `offset`.
    pub fn write(&mut self, offset: u8, value: u8) {
        // A sink that fails loses console output; the guest must not notice.
        let _ = self.0.write(offset, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_the_guest_transmits_reaches_the_sink() {
        let sink = Sink::default();
        let mut serial = Serial::new(EventFd::new(0).unwrap(), Box::new(sink.clone()));
        serial.write(0, b'!');
        assert_eq!(*sink.0.lock().unwrap(), b"!");
    }

    #[test]
    fn every_register_takes_every_byte() {
        let mut serial = Serial::new(EventFd::new(0).unwrap(), Box::new(std::io::sink()));
        for offset in 0..=u8::MAX {
            for value in 0..=u8::MAX {
                serial.write(offset, value);
                serial.read(offset);
            }
        }
    }
}
