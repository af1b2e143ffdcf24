//! All connections by their ports, and whose turn it is to speak.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::connection::{Connection, Fate, Phase};
use super::packet::{Header, STREAM};

/// Connections at a time: each holds a descriptor, and this is how many a process often has.
pub const CONNECTIONS_MAX: usize = 1024;

/// Bytes that the guest may have in the device on one connection: four of Linux's packets, so that
/// it writes the next while the device takes the last. Beyond [`WIDE_MAX`] connections less, so
/// that all of them together hold 61 MiB when no stream is read.
const WIDE_BYTES: u32 = 256 << 10;
const NARROW_BYTES: u32 = 16 << 10;
const WIDE_MAX: usize = 192;

/// Where the ports of the host's own connections begin, far from those that services listen on.
const HOST_PORTS_START: u32 = 1 << 30;

/// Streams that are seen to before other events get their turn.
const EVENTS_MAX: usize = 64;

/// What tells connections apart: there is one guest, and one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The guest's.
    pub guest: u32,
    /// The host's.
    pub host: u32,
}

impl Ports {
    /// A header from the host to the guest.
    pub fn header(self, host_cid: u64, guest_cid: u64) -> Header {
        Header {
            src_cid: host_cid.into(),
            dst_cid: guest_cid.into(),
            src_port: self.host.into(),
            dst_port: self.guest.into(),
            kind: STREAM.into(),
            ..Header::default()
        }
    }

    fn to_data(self) -> u64 {
        u64::from(self.guest) << 32 | u64::from(self.host)
    }

    fn from_data(data: u64) -> Self {
        Self {
            guest: (data >> 32) as u32,
            host: data as u32,
        }
    }
}

/// The connections.
pub struct Connections {
    all: HashMap<Ports, Entry>,
    /// Those that have something to say to the guest, once each.
    turns: VecDeque<Ports>,
    /// Waits for all streams, so that the worker waits for one descriptor.
    epoll: Epoll,
    wide: usize,
    next_port: u32,
}

struct Entry {
    connection: Connection,
    in_turns: bool,
}

impl Connections {
    /// None yet.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            all: HashMap::new(),
            turns: VecDeque::new(),
            epoll: Epoll::new()?,
            wide: 0,
            next_port: HOST_PORTS_START,
        })
    }

    /// Readable when a stream is ready.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// The streams that changed, a bounded number of them.
    ///
    /// # Errors
    /// As `epoll_wait(2)`.
    pub fn ready(&self) -> io::Result<impl Iterator<Item = (Ports, EventSet)> + use<>> {
        let mut events = [EpollEvent::default(); EVENTS_MAX];
        let count = match self.epoll.wait(0, &mut events) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            waited => waited.unwrap_or(0),
        };
        let events = events.into_iter().take(count);
        Ok(events.map(|event| (Ports::from_data(event.data()), event.event_set())))
    }

    /// The connection between `ports`.
    pub fn get_mut(&mut self, ports: Ports) -> Option<&mut Connection> {
        self.all.get_mut(&ports).map(|entry| &mut entry.connection)
    }

    /// Whether there can be no more.
    pub fn is_full(&self) -> bool {
        self.all.len() >= CONNECTIONS_MAX
    }

    /// Adds a connection over a non-blocking `stream`; false when there are too many.
    pub fn add(&mut self, ports: Ports, stream: UnixStream, phase: Phase) -> bool {
        if self.is_full() {
            return false;
        }
        // Edges: a stream that the guest has no room for must not wake the worker.
        let edges = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        let event = EpollEvent::new(edges, ports.to_data());
        let add = ControlOperation::Add;
        if self.epoll.ctl(add, stream.as_raw_fd(), event).is_err() {
            return false;
        }
        let window_bytes = if self.wide < WIDE_MAX {
            self.wide = self.wide.saturating_add(1);
            WIDE_BYTES
        } else {
            NARROW_BYTES
        };
        let entry = Entry {
            connection: Connection::new(stream, phase, window_bytes),
            in_turns: false,
        };
        self.all.insert(ports, entry);
        true
    }

    /// A connection of the host's own to `guest`, whose port no other such connection has.
    pub fn fresh_ports(&mut self, guest: u32) -> Ports {
        loop {
            let host = self.next_port;
            self.next_port = host.checked_add(1).unwrap_or(HOST_PORTS_START);
            let ports = Ports { guest, host };
            // Ends: there are far more ports than connections.
            if !self.all.contains_key(&ports) {
                return ports;
            }
        }
    }

    /// After anything that happened to a connection: gives it its turn, or forgets it. True when
    /// the guest is to be told that it was reset.
    pub fn settle(&mut self, ports: Ports) -> bool {
        let Some(entry) = self.all.get_mut(&ports) else {
            return false;
        };
        let fate = entry.connection.fate();
        if fate != Fate::Lives {
            self.remove(ports);
        } else if entry.connection.owes() && !entry.in_turns {
            entry.in_turns = true;
            self.turns.push_back(ports);
        }
        fate == Fate::Reset
    }

    /// Whether anybody has something to say.
    pub fn have_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Whose turn it is.
    pub fn next_turn(&mut self) -> Option<Ports> {
        let ports = self.turns.pop_front()?;
        if let Some(entry) = self.all.get_mut(&ports) {
            entry.in_turns = false;
        }
        Some(ports)
    }

    /// Forgets a connection and closes its stream.
    pub fn remove(&mut self, ports: Ports) {
        let Some(entry) = self.all.remove(&ports) else {
            return;
        };
        if entry.in_turns {
            self.turns.retain(|turn| *turn != ports);
        }
        if entry.connection.window_bytes() == WIDE_BYTES {
            self.wide = self.wide.saturating_sub(1);
        }
        self.unwatch(&entry);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        for (_, entry) in std::mem::take(&mut self.all) {
            self.unwatch(&entry);
        }
        self.turns.clear();
        self.wide = 0;
    }

    /// Waits for a stream no more. By itself the kernel stops only when no duplicate is open.
    fn unwatch(&self, entry: &Entry) {
        let stream = entry.connection.stream().as_raw_fd();
        let _ = (self.epoll).ctl(ControlOperation::Delete, stream, EpollEvent::default());
    }
}
