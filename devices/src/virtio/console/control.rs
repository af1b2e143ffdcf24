//! The control queues of a multiport console (virtio 1.2 §5.3.6.2): which ports there are, what
//! they are called, and who has them open.

use std::collections::VecDeque;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{CONTROL_RECEIVE, Chain, Fault, Queue};
use crate::virtio::Buffers;

/// `struct virtio_console_control`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    port: u32,
    event: u16,
    value: u16,
}

/// Events of §5.3.6.2.
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// The one port.
const PORT: u32 = 0;

/// Messages that wait for a buffer of the guest. A guest that asks again and again without taking
/// the answers gets no more of them.
const PENDING_MAX: usize = 16;

/// What the device and its driver told each other of the port.
pub struct Control {
    port_name: String,
    pending: VecDeque<Message>,
    guest_open: bool,
    host_open: bool,
}

impl Control {
    pub fn new(port_name: &str) -> Self {
        Self {
            port_name: port_name.into(),
            pending: VecDeque::new(),
            guest_open: false,
            host_open: true,
        }
    }

    /// Whether a program in the guest has the port open. Linux throws away what arrives before.
    pub fn guest_open(&self) -> bool {
        self.guest_open
    }

    /// Whether the host may still send something. A closed stream stays closed over a reset.
    pub fn host_open(&self) -> bool {
        self.host_open
    }

    pub fn reset(&mut self) {
        self.pending.clear();
        self.guest_open = false;
    }

    /// Takes one message of the driver.
    pub fn hear(&mut self, readable: &mut Buffers) -> Result<(), Fault> {
        let message: Message = readable.read_object()?;
        match (message.event, message.port, message.value) {
            (DEVICE_READY, _, 1) => self.say(PORT_ADD, 1),
            (PORT_READY, PORT, 1) => {
                self.say(PORT_NAME, 1);
                self.say(PORT_OPEN, u16::from(self.host_open));
            }
            (PORT_OPEN, PORT, value) => self.guest_open = value == 1,
            // A failed port or device, or a message of a later specification: nothing to do.
            _ => {}
        }
        Ok(())
    }

    /// Sends what is pending, as far as the guest has buffers for it.
    pub fn speak(&mut self, queues: &mut [Queue], chain: &mut Chain) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(CONTROL_RECEIVE) else {
            return Ok(());
        };
        while let Some(message) = self.pending.front() {
            if !queue.pop(chain)? {
                return Ok(());
            }
            chain.writable.write(message.as_bytes())?;
            if message.event == PORT_NAME {
                chain.writable.write(self.port_name.as_bytes())?;
            }
            queue.push(chain, chain.writable.consumed_bytes())?;
            self.pending.pop_front();
        }
        // Buffers that are left wait for the next message.
        queue.park();
        Ok(())
    }

    /// Tells the driver that nothing more will come.
    pub fn host_closed(&mut self, queues: &mut [Queue], chain: &mut Chain) -> Result<(), Fault> {
        self.host_open = false;
        self.say(PORT_OPEN, 0);
        self.speak(queues, chain)
    }

    fn say(&mut self, event: u16, value: u16) {
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(Message {
                port: PORT,
                event,
                value,
            });
        }
    }
}
