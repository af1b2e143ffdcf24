//! virtio-console with one named port (virtio 1.2 §5.3): the byte stream between the guest's
//! agent and the host.
//!
//! Linux shows the port as `/dev/vportNp0` and its name below `/sys/class/virtio-ports`. What the
//! guest writes goes to a host stream, and back; a stream that is full holds the guest's buffers
//! until it drains, so nothing is ever stored here. Consoles proper (`hvc0`) and resizing are left
//! out: terminals are the agent's business.

mod control;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use vmm_sys_util::epoll::EventSet;

use self::control::Control;
use super::{Chain, Device, Facts, Fault, Handler, Queue, Watch};
use crate::Memory;

/// `VIRTIO_CONSOLE_F_MULTIPORT`: ports have names, and can be opened and closed.
const MULTIPORT: u64 = 1 << 1;

/// Linux posts one page for each entry of the receive queue when the port is added, so the size
/// is also the memory that an idle port costs: 32 pages.
const DATA_QUEUE_SIZE: u16 = 32;
/// A handful of control messages at start, none afterwards.
const CONTROL_QUEUE_SIZE: u16 = 8;

/// Reads or writes of the stream for one event, before other events get their turn: as many as
/// the queue holds chains, each bounded by the stream's own buffer.
const TRANSFERS_MAX: u16 = DATA_QUEUE_SIZE;

/// Queue indices, §5.3.2.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;

/// A console device whose one port has `port_name` and ends in `stream`.
///
/// # Errors
/// The stream cannot be made non-blocking.
pub fn open(memory: &Memory, port_name: &str, stream: UnixStream) -> anyhow::Result<Device> {
    stream
        .set_nonblocking(true)
        .context("cannot make the console's stream non-blocking")?;
    // cols and rows, which are not offered; max_nr_ports; emerg_wr, not offered.
    let config = [[0; 4], 1u32.to_le_bytes(), [0; 4]].concat();
    let facts = Facts {
        id: 3,
        name: "console".into(),
        features: MULTIPORT,
        queue_sizes: vec![
            DATA_QUEUE_SIZE,
            DATA_QUEUE_SIZE,
            CONTROL_QUEUE_SIZE,
            CONTROL_QUEUE_SIZE,
        ],
        config,
    };
    let console = Console {
        stream,
        control: Control::new(port_name),
        received: Chain::new(memory),
        sent: Chain::new(memory),
        scratch: Chain::new(memory),
        stalled: false,
        starved: true,
        host_deaf: false,
    };
    Ok(Device::of_one_part(facts, console))
}

struct Console {
    stream: UnixStream,
    control: Control,
    received: Chain,
    sent: Chain,
    scratch: Chain,
    /// `sent` holds a chain that the stream has not taken whole.
    stalled: bool,
    /// The guest has no buffer for what the host sends.
    starved: bool,
    /// Nobody reads the stream any more, so that writes vanish.
    host_deaf: bool,
}

impl Handler for Console {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        match index {
            RECEIVE => {
                self.starved = false;
                // The buffers wait until the stream has something for them.
                if let Some(queue) = queues.get_mut(RECEIVE) {
                    queue.park();
                }
                Ok(())
            }
            TRANSMIT => self.send(queues),
            CONTROL_RECEIVE => self.answer(queues),
            CONTROL_TRANSMIT => self.listen(queues),
            _ => Ok(()),
        }
    }

    fn watch(&self) -> Vec<Watch> {
        let mut events = EventSet::empty();
        if self.may_receive() {
            events |= EventSet::IN;
        }
        if self.stalled {
            events |= EventSet::OUT;
        }
        vec![Watch {
            fd: self.stream.as_raw_fd(),
            events,
        }]
    }

    fn ready(&mut self, _index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        if self.stalled {
            self.send(queues)?;
        }
        if self.may_receive() {
            self.receive(queues)?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.control.reset();
        self.stalled = false;
        self.starved = true;
    }
}

impl Console {
    /// Whether there is somebody to send, somebody to receive, and room.
    fn may_receive(&self) -> bool {
        self.control.guest_open() && self.control.host_open() && !self.starved
    }

    /// Moves what the guest wrote to the stream, until the stream is full.
    fn send(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(TRANSMIT) else {
            return Ok(());
        };
        for _ in 0..TRANSFERS_MAX {
            if !self.stalled && !queue.pop(&mut self.sent)? {
                break;
            }
            self.stalled = true;
            if !self.host_deaf && self.sent.readable.remaining_bytes() > 0 {
                match self.sent.readable.write_to(self.stream.as_fd()) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        queue.park();
                        break;
                    }
                    Err(_) => self.host_deaf = true,
                }
            }
            if self.host_deaf || self.sent.readable.remaining_bytes() == 0 {
                queue.push(&self.sent, 0)?;
                self.stalled = false;
            }
        }
        Ok(())
    }

    /// Moves what the host sent to the guest, until the guest has no buffer left.
    fn receive(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(RECEIVE) else {
            return Ok(());
        };
        for _ in 0..TRANSFERS_MAX {
            if !queue.pop(&mut self.received)? {
                self.starved = true;
                break;
            }
            let writable = &mut self.received.writable;
            if writable.remaining_bytes() == 0 {
                queue.push(&self.received, 0)?;
                continue;
            }
            match writable.read_from(self.stream.as_fd(), usize::MAX) {
                Ok(bytes) if bytes > 0 => queue.push(&self.received, bytes)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => queue.unpop(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.unpop();
                    break;
                }
                // The end, or a host that closed without reading all it was sent.
                Ok(_) | Err(_) => {
                    queue.unpop();
                    return self.control.host_closed(queues, &mut self.scratch);
                }
            }
        }
        Ok(())
    }

    fn listen(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(CONTROL_TRANSMIT) else {
            return Ok(());
        };
        for _ in 0..CONTROL_QUEUE_SIZE {
            if !queue.pop(&mut self.scratch)? {
                break;
            }
            self.control.hear(&mut self.scratch.readable)?;
            queue.push(&self.scratch, 0)?;
        }
        self.answer(queues)
    }

    fn answer(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        self.control.speak(queues, &mut self.scratch)
    }
}

#[cfg(test)]
mod tests;
