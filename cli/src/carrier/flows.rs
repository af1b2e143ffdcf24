//! Datagrams: who sends from one address is a client, until nothing has come or gone for long.
//!
//! The one thing to know: one that has no room now is lost, as datagrams are.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use guest::endpoint::CREDIT_STEP;
use guest::outbox::Outbox;
use guest::protocol::{CONNECTION_WINDOW, Connect, MAX_PAYLOAD, Message, Stream};

/// A client of whom nothing was heard for so long has gone: what Linux gives a stream of datagrams
/// in both directions (`nf_conntrack_udp_timeout_stream`).
pub const IDLE: Duration = Duration::from_secs(120);

/// Clients of one door; one more ends the one that was silent longest. Else anyone could keep
/// connections from being taken by sending from many ports.
const MAX_FLOWS: usize = 256;

/// A socket and its clients.
pub struct Flows {
    socket: UdpSocket,
    target: SocketAddr,
    by_peer: HashMap<SocketAddr, u32>,
    by_id: BTreeMap<u32, Flow>,
    /// Ended, and not told by [`Self::end_idle`] so far.
    ended: Vec<u32>,
    buffer: Box<[u8]>,
}

struct Flow {
    peer: SocketAddr,
    /// Bytes that the guest takes.
    credit: u32,
    /// Bytes that came from it since the last credit.
    passed: u32,
    used: Instant,
}

impl Flows {
    pub fn new(socket: UdpSocket, target: SocketAddr) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            target,
            by_peer: HashMap::new(),
            by_id: BTreeMap::new(),
            ended: Vec::new(),
            buffer: vec![0; MAX_PAYLOAD].into(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Takes one datagram. A client who is new gets the number `id`; then this is true.
    ///
    /// # Errors
    /// None waits.
    pub fn hear(&mut self, id: u32, outbox: &mut Outbox) -> io::Result<bool> {
        let (length, peer) = match self.socket.recv_from(&mut self.buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // One that was sent before has found nobody.
            Err(_) => return Ok(false),
        };
        let known = self.by_peer.get(&peer).copied();
        let id = known.unwrap_or(id);
        if known.is_none() {
            if self.by_id.len() >= MAX_FLOWS {
                self.end_oldest(outbox);
            }
            let connect = Connect {
                address: self.target,
                datagrams: true,
                patient: false,
            };
            outbox.push(id, &Message::Connect(connect));
            let flow = Flow {
                peer,
                credit: CONNECTION_WINDOW,
                passed: 0,
                used: Instant::now(),
            };
            self.by_peer.insert(peer, id);
            self.by_id.insert(id, flow);
        }
        if let Some(flow) = self.by_id.get_mut(&id) {
            flow.used = Instant::now();
            let bytes = &self.buffer[..length];
            let credit = u32::try_from(length)
                .ok()
                .and_then(|length| flow.credit.checked_sub(length));
            // No frame is made for one without a byte.
            if let Some(credit) = credit.filter(|_| length > 0) {
                flow.credit = credit;
                let stream = Stream::Stdin;
                outbox.push(id, &Message::Data { stream, bytes });
            }
        }
        Ok(known.is_none())
    }

    /// Takes what the guest says of a client.
    ///
    /// # Errors
    /// It broke the protocol.
    pub fn take(&mut self, id: u32, message: &Message<'_>, outbox: &mut Outbox) -> Result<()> {
        if message.ends_session() {
            self.forget(id);
            return Ok(());
        }
        // Under way when its end was told.
        let Some(flow) = self.by_id.get_mut(&id) else {
            return Ok(());
        };
        match message {
            Message::Data { bytes, .. } => {
                flow.passed = flow.passed.saturating_add(u32::try_from(bytes.len())?);
                ensure!(
                    flow.passed <= CONNECTION_WINDOW,
                    "a datagram without credit"
                );
                flow.used = Instant::now();
                // One that has no room is lost.
                let _ = self.socket.send_to(bytes, flow.peer);
                if flow.passed >= CREDIT_STEP {
                    let credit = Message::Credit {
                        stream: Stream::Stdout,
                        bytes: std::mem::take(&mut flow.passed),
                    };
                    outbox.push(id, &credit);
                }
            }
            Message::Credit { bytes, .. } => {
                flow.credit = flow.credit.saturating_add(*bytes);
                ensure!(
                    flow.credit <= CONNECTION_WINDOW,
                    "credit for datagrams that were not sent"
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends those who were silent for long. Returns all that have been ended.
    pub fn end_idle(&mut self, outbox: &mut Outbox) -> Vec<u32> {
        while self
            .oldest()
            .is_some_and(|(_, used)| used.elapsed() >= IDLE)
        {
            self.end_oldest(outbox);
        }
        std::mem::take(&mut self.ended)
    }

    fn oldest(&self) -> Option<(u32, Instant)> {
        let flows = self.by_id.iter().map(|(id, flow)| (*id, flow.used));
        flows.min_by_key(|(_, used)| *used)
    }

    fn end_oldest(&mut self, outbox: &mut Outbox) {
        if let Some((id, _)) = self.oldest() {
            say_end(id, outbox);
            self.forget(id);
            self.ended.push(id);
        }
    }

    fn forget(&mut self, id: u32) {
        if let Some(flow) = self.by_id.remove(&id) {
            self.by_peer.remove(&flow.peer);
        }
    }
}

impl AsFd for Flows {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Tells the guest that a client has gone.
pub fn say_end(id: u32, outbox: &mut Outbox) {
    outbox.push(id, &Message::Eof(Stream::Stdin));
    outbox.push(id, &Message::Close(Stream::Stdout));
}
