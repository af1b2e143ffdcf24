//! virtio-vsock: stream sockets between the guest and this process (virtio 1.2 §5.10).
//!
//! The guest is one CID, the host the other; a connection is a pair of ports and, on the host's
//! side, one end of a socket pair ([`Host`]). One worker owns all connections and never waits for
//! any of them. Data goes between guest pages and streams without a copy; what a stream does not
//! take lies in its connection's [`backlog`], and counts against what the guest may send.
//!
//! Left out: `SOCK_SEQPACKET`, and events. The one event there is tells the driver that all
//! connections are lost because its machine was moved or restored (§5.10.6.7), which no machine
//! here is: the driver's buffers for it are kept.

mod backlog;
mod connection;
mod connections;
mod credit;
mod host;
pub mod packet;
mod replies;

use anyhow::Context;
use vmm_sys_util::epoll::EventSet;
use zerocopy::IntoBytes;

pub use self::connections::CONNECTIONS_MAX;
pub use self::host::Host;

use self::connection::Phase;
use self::connections::{Connections, Ports};
use self::packet::{HEADER_BYTES, Header, STREAM, op};
use self::replies::Replies;
use super::{Chain, Device, Facts, Fault, Handler, Queue, Watch};
use crate::Memory;

/// Device type, §5.10.1.
const ID: u32 = 19;

/// `VIRTIO_VSOCK_F_STREAM`.
const STREAM_SOCKETS: u64 = 1;

/// `VMADDR_CID_HOST`, §5.10.4.
pub const HOST_CID: u64 = 2;

/// Linux posts a page for each entry of the receive queue when it starts, so the size is also the
/// memory that an idle device costs: 64 pages.
const DATA_QUEUE_SIZE: u16 = 64;
/// Linux posts eight buffers of eight bytes.
const EVENT_QUEUE_SIZE: u16 = 8;

/// Packets in one direction before the other, and other events, get their turn.
const PACKETS_MAX: u16 = DATA_QUEUE_SIZE;

/// Queue indices, §5.10.2.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Indices of what is watched.
const HOST: usize = 0;

/// A socket device, and the host's end of it. `guest_cid` is the guest's address: not 0 to 2,
/// which are somebody else's, nor all ones.
///
/// # Errors
/// No descriptor is left.
pub fn open(memory: &Memory, guest_cid: u32) -> anyhow::Result<(Device, Host)> {
    let guest_cid = u64::from(guest_cid);
    let host = Host::new()?;
    let connections = Connections::new().context("cannot create an epoll descriptor")?;
    let vsock = Vsock {
        guest_cid,
        host: host.clone(),
        connections,
        replies: Replies::default(),
        received: Chain::new(memory),
        sent: Chain::new(memory),
        stalled: false,
    };
    let facts = Facts {
        id: ID,
        name: "vsock".into(),
        features: STREAM_SOCKETS,
        queue_sizes: vec![DATA_QUEUE_SIZE, DATA_QUEUE_SIZE, EVENT_QUEUE_SIZE],
        config: guest_cid.to_le_bytes().to_vec(),
    };
    Ok((Device::of_one_part(facts, vsock), host))
}

struct Vsock {
    guest_cid: u64,
    host: Host,
    connections: Connections,
    replies: Replies,
    received: Chain,
    sent: Chain,
    /// The guest's packets wait until it takes replies.
    stalled: bool,
}

impl Handler for Vsock {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let served = match index {
            RECEIVE => self.serve(queues),
            TRANSMIT => self.listen(queues).and_then(|()| self.serve(queues)),
            _ => {
                if let Some(events) = queues.get_mut(index) {
                    events.park();
                }
                Ok(())
            }
        };
        self.check(served)
    }

    fn watch(&self) -> Vec<Watch> {
        [self.host.fd(), self.connections.fd()]
            .map(|fd| Watch {
                fd,
                events: EventSet::IN,
            })
            .to_vec()
    }

    fn ready(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let seen = if index == HOST {
            self.connect()
        } else {
            self.see_streams()
        };
        let served = seen.and_then(|()| self.serve(queues));
        self.check(served)
    }

    fn stop(&mut self) {
        self.forget();
        self.host.recover();
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.host.end();
    }
}

impl Vsock {
    /// A device that needs a reset keeps nobody waiting.
    fn check(&mut self, served: Result<(), Fault>) -> Result<(), Fault> {
        if served.is_err() {
            self.forget();
            self.host.fail();
        }
        served
    }

    fn forget(&mut self) {
        self.connections.clear();
        self.replies.clear();
        self.stalled = false;
    }

    /// Speaks, and hears again what had to wait for that.
    fn serve(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        self.speak(queues)?;
        if self.stalled && !self.replies.is_full() {
            self.listen(queues)?;
            self.speak(queues)?;
        }
        Ok(())
    }

    /// Takes the host's new connections.
    fn connect(&mut self) -> Result<(), Fault> {
        for (port, stream) in self.host.take() {
            if self.connections.is_full() {
                // Those that were given up meanwhile make room.
                self.see_streams()?;
            }
            let ports = self.connections.fresh_ports(port);
            // One too many is closed.
            if self.connections.add(ports, stream, Phase::Requesting) {
                self.settle(ports);
            }
        }
        Ok(())
    }

    fn see_streams(&mut self) -> Result<(), Fault> {
        let ready = self.connections.ready().context("cannot wait for streams");
        for (ports, events) in ready? {
            if let Some(connection) = self.connections.get_mut(ports) {
                connection.stream_ready(events);
                self.settle(ports);
            }
        }
        Ok(())
    }

    fn settle(&mut self, ports: Ports) {
        if self.connections.settle(ports) {
            self.say_reset(ports);
        }
    }

    fn say_reset(&mut self, ports: Ports) {
        let mut header = ports.header(HOST_CID, self.guest_cid);
        header.op = op::RST.into();
        self.replies.push(header);
    }

    /// Takes the guest's packets.
    fn listen(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(TRANSMIT) else {
            return Ok(());
        };
        self.stalled = false;
        for _ in 0..PACKETS_MAX {
            if self.replies.is_full() {
                self.stalled = true;
                queue.park();
                break;
            }
            if !queue.pop_any(&mut self.sent)? {
                break;
            }
            self.hear()?;
            queue.push(&self.sent, 0)?;
        }
        Ok(())
    }

    /// Takes the packet in `sent`.
    fn hear(&mut self) -> Result<(), Fault> {
        let is_reachable = self.sent.is_reachable();
        let payload = &mut self.sent.readable;
        let header: Header = payload.read_object()?;
        if header.src_cid != self.guest_cid {
            // Not the guest's own address: an answer would go to somebody else.
            return Ok(());
        }
        if header.dst_cid != HOST_CID {
            self.replies.refuse(&header);
            return Ok(());
        }
        let ports = Ports {
            guest: header.src_port.get(),
            host: header.dst_port.get(),
        };
        match self.connections.get_mut(ports) {
            Some(connection) if !connection.is_over() => {
                // Data that are not to be had must not be missed silently.
                let is_heard = header.kind == STREAM && is_reachable;
                if is_heard && connection.hear(&header, payload)? {
                    self.settle(ports);
                } else {
                    self.connections.remove(ports);
                    self.say_reset(ports);
                }
            }
            None if header.kind == STREAM && header.op == op::REQUEST => {
                self.accept(ports, &header);
            }
            _ => self.replies.refuse(&header),
        }
        Ok(())
    }

    /// The guest asks for a connection.
    fn accept(&mut self, ports: Ports, request: &Header) {
        let stream = if self.connections.is_full() {
            None
        } else {
            self.host.accept(ports.host)
        };
        let added = stream
            .is_some_and(|stream| self.connections.add(ports, stream, Phase::Accepting))
            && (self.connections.get_mut(ports)).is_some_and(|added| added.hear_credit(request));
        if added {
            self.settle(ports);
        } else {
            self.connections.remove(ports);
            self.replies.refuse(request);
        }
    }

    /// Gives the guest what there is for it, as far as it has buffers.
    fn speak(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(RECEIVE) else {
            return Ok(());
        };
        let mut packets = 0;
        let mut held = false;
        while packets < PACKETS_MAX {
            if self.replies.first().is_none() && !self.connections.have_turns() {
                if held {
                    queue.unpop();
                }
                // Buffers that are left wait for the next packet.
                queue.park();
                break;
            }
            if !held && !queue.pop(&mut self.received)? {
                break;
            }
            held = true;
            if let Some(bytes) = self.say_next()? {
                queue.push(&self.received, bytes)?;
                held = false;
                packets = packets.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Writes the next packet to `received`; says how many bytes, or none when the connection
    /// whose turn it was has nothing to say after all.
    fn say_next(&mut self) -> Result<Option<usize>, Fault> {
        let buffer = &mut self.received.writable;
        if buffer.remaining_bytes() <= HEADER_BYTES {
            // No room for a byte of data: it comes back empty.
            return Ok(Some(0));
        }
        if let Some(reply) = self.replies.first() {
            buffer.write(reply.as_bytes())?;
            self.replies.pop_first();
            return Ok(Some(HEADER_BYTES));
        }
        let Some(ports) = self.connections.next_turn() else {
            return Ok(None);
        };
        let Some(connection) = self.connections.get_mut(ports) else {
            return Ok(None);
        };
        let spoken = connection.speak(ports.header(HOST_CID, self.guest_cid), buffer)?;
        self.settle(ports);
        Ok(spoken)
    }
}

#[cfg(test)]
mod tests;
