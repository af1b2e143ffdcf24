//! The serial port at 0x3f8 (16550): where the kernel's own messages go.
//!
//! The registers are vm-superio's. What the guest writes goes to a sink that never blocks the
//! vCPU for long and never fails towards the guest; input is not offered.

use std::io::Write;
use std::sync::Arc;

use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::virtio::roster::Roster;

/// First port of COM1.
pub const PORT: u16 = 0x3f8;
/// Ports of a UART.
pub const PORTS: u16 = 8;
/// Its interrupt, as on every PC.
pub const IRQ: u32 = 4;

/// The interrupt enable register.
const IER: u8 = 1;
/// In it: received data.
const IER_RECEIVED: u8 = 1;
/// In it: modem status.
const IER_MODEM: u8 = 1 << 3;
/// The line control register.
const LCR: u8 = 3;
/// In it: the first two registers are the divisor of the clock.
const LCR_DIVISOR: u8 = 1 << 7;

struct Line(EventFd);

impl Trigger for Line {
    type E = std::io::Error;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.write(1)
    }
}

/// A serial port that only speaks.
pub struct Serial {
    uart: Uart<Line, vm_superio::serial::NoEvents, Box<dyn Write + Send>>,
    /// Until the guest opens it.
    closed: Option<Arc<Roster>>,
}

impl Serial {
    /// A port whose output goes to `sink` and whose interrupt is `line`. In `roster` it counts as
    /// one that has a driver when the guest has opened it: Linux opens its console last of all,
    /// before the first process.
    pub fn new(line: EventFd, sink: Box<dyn Write + Send>, roster: Arc<Roster>) -> Self {
        roster.enter();
        Self {
            uart: Uart::new(Line(line), sink),
            closed: Some(roster),
        }
    }

    /// The guest reads register `offset`.
    pub fn read(&mut self, offset: u8) -> u8 {
        self.uart.read(offset)
    }

    /// The guest writes register `offset`.
    pub fn write(&mut self, offset: u8, value: u8) {
        if self.opens(offset, value)
            && let Some(roster) = self.closed.take()
        {
            roster.driven();
        }
        // A sink that fails loses console output; the guest must not notice.
        let _ = self.uart.write(offset, value);
    }

    /// Whether this asks for interrupts as a driver does that wants to read. One that looks what
    /// this is asks for all of them.
    fn opens(&mut self, offset: u8, value: u8) -> bool {
        self.closed.is_some()
            && offset == IER
            && value & (IER_RECEIVED | IER_MODEM) == IER_RECEIVED
            && self.uart.read(LCR) & LCR_DIVISOR == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

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
        let line = EventFd::new(0).unwrap();
        let mut serial = Serial::new(line, Box::new(sink.clone()), Arc::default());
        serial.write(0, b'!');
        assert_eq!(*sink.0.lock().unwrap(), b"!");
    }

    fn silent(roster: &Arc<Roster>) -> Serial {
        let line = EventFd::new(0).unwrap();
        Serial::new(line, Box::new(std::io::sink()), Arc::clone(roster))
    }

    #[test]
    fn it_is_open_when_the_guest_wants_to_read_and_not_when_it_looks_what_it_is() {
        let roster = Arc::default();
        let mut serial = silent(&roster);
        let opened = || roster.wait_for_drivers(Duration::ZERO);
        // Linux looks for a register that keeps what is written to it, then sets the speed.
        let looks = [
            (IER, 0),
            (IER, 0x0f),
            (IER, 0),
            (LCR, 0x83),
            (IER, 5),
            (LCR, 3),
        ];
        for (offset, value) in looks {
            serial.write(offset, value);
            assert!(!opened(), "{offset} {value:#x}");
        }
        serial.write(IER, 5);
        assert!(opened());
        // Another port of the same machine would still be closed.
        roster.enter();
        serial.write(IER, 5);
        assert!(!opened());
    }

    #[test]
    fn every_register_takes_every_byte() {
        let mut serial = silent(&Arc::default());
        for offset in 0..=u8::MAX {
            for value in 0..=u8::MAX {
                serial.write(offset, value);
                serial.read(offset);
            }
        }
    }
}
