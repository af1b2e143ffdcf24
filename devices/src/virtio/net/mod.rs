//! virtio-net: a network card with one pair of queues (virtio 1.2 §5.1).
//!
//! Frames go between guest pages and a descriptor of the host's, without a copy on the way but for
//! small ones that came together. What is at the other end is a [`Backend`]: a [`Stream`] (passt), one
//! that is replaced when it ends ([`Rejoining`]), or a [`Tap`]. When that fails, the guest sees its
//! link go down. Left out: the control queue and what needs it (several pairs, filters by address),
//! and UDP segmentation.

mod ahead;
mod counters;
mod header;
mod posted;
mod rejoin;
mod stream;
mod tap;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use virtio_bindings::virtio_net as bit;
use vmm_sys_util::epoll::EventSet;

pub use self::counters::Counters;
use self::header::{ETHERNET_BYTES, FRAME_BYTES_MAX, HEADER_BYTES, Header, Rules, TAG_BYTES};
use self::posted::Posted;
pub use self::rejoin::{Fetch, Rejoining};
pub use self::stream::Stream;
pub use self::tap::Tap;
use super::rate_limiter::{Rate, Throttle};
use super::{Buffers, Chain, Device, Facts, Fault, Handler, Queue, Watch};
use crate::Memory;
use crate::log;

/// What a driver uses that does not accept [`bit::VIRTIO_NET_F_MTU`].
const MTU_UNTOLD: u16 = 1500;

/// Linux' own default for network cards: in single pages, 1 MiB on its way.
const QUEUE_SIZE: u16 = 256;

/// Frames of one direction for one event, before others get their turn.
const FRAMES_MAX: u16 = QUEUE_SIZE;

/// Queue indices, §5.1.2.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Queues of a card.
const QUEUES: u16 = 2;

/// Features of every card.
const FEATURES: u64 = 1 << bit::VIRTIO_NET_F_MAC
    | 1 << bit::VIRTIO_NET_F_STATUS
    | 1 << bit::VIRTIO_NET_F_MTU
    | 1 << bit::VIRTIO_NET_F_MRG_RXBUF;

/// A network card.
pub struct Config {
    /// Names the device in messages.
    pub name: String,
    /// Its address.
    pub mac: [u8; 6],
    /// The largest packet of its link, in bytes without the Ethernet header: 68 or more.
    pub mtu: u16,
    /// The host's side.
    pub backend: Box<dyn Backend>,
    /// Counts what goes through it.
    pub counters: Arc<Counters>,
    /// How fast it may be used, by both directions together; none for as fast as it is.
    pub rate: Option<Rate>,
}

/// The host's side of a card: it takes and gives whole frames. Errors are the kernel's;
/// `WouldBlock` is told again by [`Backend::fd`], and `Interrupted` is a wish to be called again.
/// Any other is the end of it.
pub trait Backend: Send {
    /// Features of the card that it brings along.
    fn features(&self) -> u64;

    /// A driver starts that has accepted `features`.
    ///
    /// # Errors
    /// The kernel refuses.
    fn start(&mut self, features: u64) -> anyhow::Result<()>;

    /// The driver was reset: no frame goes on that has begun.
    fn stop(&mut self);

    /// The card will not use it again.
    fn close(&mut self);

    /// Readable when a frame has come, writable when one can go.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Sends what is left of `frame`. Called again with the same one if it cannot yet.
    fn send(&mut self, header: &Header, frame: &mut Buffers) -> io::Result<()>;

    /// Whether it has bytes that [`Backend::fd`] will not tell of.
    fn has_ahead(&self) -> bool;

    /// Bytes that the next frame may have, `limit` or less; none where part of it has been
    /// received.
    fn next_bytes(&mut self, limit: usize) -> io::Result<Option<usize>>;

    /// Receives a frame and its header, which is returned where it was not received as well.
    fn receive(&mut self, posted: &mut Posted) -> io::Result<Option<Header>>;
}

impl Config {
    /// The device.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn open(self, memory: &Memory) -> anyhow::Result<Device> {
        let throttles = match &self.rate {
            Some(rate) => Throttle::for_queues(rate, QUEUES)?,
            None => Vec::new(),
        };
        let facts = Facts {
            id: 1,
            name: self.name.clone(),
            features: FEATURES | self.backend.features(),
            queue_sizes: vec![QUEUE_SIZE; QUEUES.into()],
            config: self.space(true),
        };
        let net = Net {
            posted: Posted::new(memory),
            sent: Chain::new(memory),
            stalled: None,
            starved: true,
            throttles,
            held: false,
            link: Link::Up,
            rules: Rules::new(0, MTU_UNTOLD),
            limit: 0,
            config: self,
        };
        Ok(Device::of_one_part(facts, net))
    }

    /// `struct virtio_net_config` (§5.1.4), as far as features need it.
    fn space(&self, link_up: bool) -> Vec<u8> {
        let status = if link_up {
            bit::VIRTIO_NET_S_LINK_UP
        } else {
            0
        } as u16;
        // There is one pair of queues, which a driver is told of only with `VIRTIO_NET_F_MQ`.
        let pairs = 1u16;
        let words = [status, pairs, self.mtu].map(u16::to_le_bytes);
        [&self.mac[..], words.as_flattened()].concat()
    }
}

struct Net {
    config: Config,
    posted: Posted,
    sent: Chain,
    /// The header of the frame in `sent`, which the host has not taken.
    stalled: Option<Header>,
    /// The guest has no buffers for what the host sends.
    starved: bool,
    /// Of each queue, where the card has a rate.
    throttles: Vec<Throttle>,
    /// What the host sends waits until it may go.
    held: bool,
    link: Link,
    rules: Rules,
    /// Bytes of the largest frame that the driver has room for.
    limit: usize,
}

/// Whether the host's side is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// It has just failed, and the driver is to be told.
    Failing,
    Down,
}

impl Handler for Net {
    fn start(&mut self, features: u64) -> anyhow::Result<()> {
        let has = |feature: u32| features & 1 << feature != 0;
        let mtu = if has(bit::VIRTIO_NET_F_MTU) {
            self.config.mtu
        } else {
            self.config.mtu.min(MTU_UNTOLD)
        };
        let mergeable = has(bit::VIRTIO_NET_F_MRG_RXBUF);
        let large = has(bit::VIRTIO_NET_F_GUEST_TSO4) || has(bit::VIRTIO_NET_F_GUEST_TSO6);
        // A driver without mergeable buffers posts what §5.1.6.3.1 names, which has no room for a
        // VLAN's tag.
        let tag = if mergeable { TAG_BYTES } else { 0 };
        let whole = usize::from(mtu)
            .saturating_add(ETHERNET_BYTES)
            .saturating_add(tag);
        self.limit = if large {
            FRAME_BYTES_MAX
        } else {
            whole.min(FRAME_BYTES_MAX)
        };
        self.rules = Rules::new(features, mtu);
        self.posted.start(mergeable);
        if self.link != Link::Up {
            return Ok(());
        }
        self.config.backend.start(features)
    }

    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        if index == TRANSMIT {
            return self.send(queues);
        }
        self.starved = false;
        if self.can_receive() && self.config.backend.has_ahead() {
            return self.receive(queues);
        }
        // The buffers wait until the host has a frame for them.
        if let Some(queue) = queues.get_mut(RECEIVE) {
            queue.park();
        }
        Ok(())
    }

    fn watch(&self) -> Vec<Watch> {
        let mut events = EventSet::empty();
        if self.link == Link::Up {
            events.set(EventSet::IN, self.can_receive());
            events.set(EventSet::OUT, self.stalled.is_some());
        }
        let backend = Watch {
            fd: self.config.backend.fd().as_raw_fd(),
            events,
        };
        let timers = self.throttles.iter().map(Throttle::watch);
        [backend].into_iter().chain(timers).collect()
    }

    fn ready(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        // Behind the backend are the queues' timers.
        let due = index.checked_sub(1);
        if let Some(throttle) = due.and_then(|queue| self.throttles.get_mut(queue)) {
            throttle.rearm()?;
        }
        if due == Some(RECEIVE) {
            self.held = false;
        }
        if due == Some(TRANSMIT) || self.stalled.is_some() {
            self.send(queues)?;
        }
        if self.can_receive() {
            self.receive(queues)?;
        }
        Ok(())
    }

    fn changed_config(&mut self) -> Option<Vec<u8>> {
        (self.link == Link::Failing).then(|| {
            self.link = Link::Down;
            self.config.space(false)
        })
    }

    fn stop(&mut self) {
        self.config.backend.stop();
        self.posted.stop();
        self.stalled = None;
        self.starved = true;
        self.held = false;
    }
}

impl Net {
    /// Whether a frame of the host's could go to the guest.
    fn can_receive(&self) -> bool {
        !self.starved && !self.held && self.link == Link::Up
    }

    /// Moves the guest's frames to the host, until that takes no more.
    fn send(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(TRANSMIT) else {
            return Ok(());
        };
        for _ in 0..FRAMES_MAX {
            if self.stalled.is_none() {
                if !lets_through(&mut self.throttles, TRANSMIT)? {
                    queue.park();
                    break;
                }
                if !queue.pop(&mut self.sent)? {
                    break;
                }
                self.stalled = self.checked_header()?;
            }
            let bytes = frame_bytes(&self.sent.readable);
            if let (Some(header), Link::Up) = (&self.stalled, self.link) {
                let sent = self.config.backend.send(header, &mut self.sent.readable);
                match sent.map_err(|error| (error.kind(), error)) {
                    Ok(()) => self.config.counters.count_sent(bytes),
                    Err((io::ErrorKind::Interrupted, _)) => continue,
                    Err((io::ErrorKind::WouldBlock, _)) => {
                        queue.park();
                        break;
                    }
                    Err((_, error)) => self.fail(&error),
                }
            }
            // Sent, or dropped.
            self.stalled = None;
            queue.push(&self.sent, 0)?;
            pay(&self.throttles, TRANSMIT, bytes);
        }
        Ok(())
    }

    /// The header of the frame in `sent`; none if that is to be dropped.
    fn checked_header(&mut self) -> Result<Option<Header>, Fault> {
        let frame = &mut self.sent.readable;
        if frame.remaining_bytes() < HEADER_BYTES {
            return Ok(None);
        }
        let header: Header = frame.read_object()?;
        Ok(self.rules.checked(&header, frame.remaining_bytes()))
    }

    /// Moves the host's frames to the guest, until there are none or the guest has no buffers.
    fn receive(&mut self, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(RECEIVE) else {
            return Ok(());
        };
        for _ in 0..FRAMES_MAX {
            let received = match self.config.backend.next_bytes(self.limit) {
                // One that has begun goes on.
                Ok(Some(_)) if !lets_through(&mut self.throttles, RECEIVE)? => {
                    self.held = true;
                    queue.park();
                    break;
                }
                Ok(Some(bytes)) if !self.posted.make_room(queue, bytes)? => {
                    self.starved = true;
                    break;
                }
                Ok(_) => self.config.backend.receive(&mut self.posted),
                Err(error) => Err(error),
            };
            match received.map_err(|error| (error.kind(), error)) {
                Ok(header) => {
                    let bytes = self.posted.complete(queue, header)?;
                    self.config.counters.count_received(bytes);
                    pay(&self.throttles, RECEIVE, bytes);
                }
                Err((io::ErrorKind::Interrupted, _)) => {}
                Err((io::ErrorKind::WouldBlock, _)) => {
                    queue.park();
                    break;
                }
                Err((_, error)) => {
                    self.fail(&error);
                    queue.park();
                    break;
                }
            }
        }
        Ok(())
    }

    /// The host's side has ended. Told once: it does not come back.
    fn fail(&mut self, error: &io::Error) {
        let name = &self.config.name;
        log::tell(format_args!(
            "{name}: the host's side of this network card has ended ({error}); its link is down from here on"
        ));
        self.config.backend.close();
        self.link = Link::Failing;
    }
}

/// Bytes of a frame behind its header, whatever of it was read.
fn frame_bytes(buffers: &Buffers) -> usize {
    let bytes = buffers
        .consumed_bytes()
        .saturating_add(buffers.remaining_bytes());
    bytes.saturating_sub(HEADER_BYTES)
}

/// Whether the next frame of that queue may go.
fn lets_through(throttles: &mut [Throttle], queue: usize) -> Result<bool, Fault> {
    throttles
        .get_mut(queue)
        .map_or(Ok(true), Throttle::lets_through)
}

/// Has a frame of that queue pay.
fn pay(throttles: &[Throttle], queue: usize, bytes: usize) {
    if let Some(throttle) = throttles.get(queue) {
        throttle.pay(bytes);
    }
}

#[cfg(test)]
mod tests;
