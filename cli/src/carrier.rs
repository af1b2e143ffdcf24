//! Carries what comes to sockets of the host into a guest: over one connection with its agent, each
//! client in a session of its own.
//!
//! The one thing to know: one thread and one `poll` carry all, and nothing in it blocks. What waits
//! is bounded for each way of each client ([`guest::protocol::CONNECTION_WINDOW`]), so one that
//! stands still holds up no other. The guest is hostile: what does not fit ends the carrier.

mod flows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use guest::endpoint::{Endpoint, Form};
use guest::outbox::Outbox;
use guest::protocol::{Connect, MACHINE, MAX_CONNECTIONS, Message, Side};
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketFlags, accept_with, listen};

use vmm::net::{BACKLOG, Socket, SocketFile};

use crate::attach::{Connection, is_transient};
use crate::poll;
use flows::Flows;

/// Taken at a time, before others have their turn.
const AT_ONCE: usize = 64;

/// Reads of the guest's words between two looks at the clients.
const READS_AT_ONCE: usize = 8;

/// Nobody is taken for so long when the host has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// Carries clients of its doors.
pub struct Carrier {
    guest: Connection,
    outbox: Outbox,
    /// By the number that their owner gave them.
    doors: BTreeMap<u64, Vec<Door>>,
    sessions: BTreeMap<u32, Session>,
    next: u32,
    /// Who has the first turn.
    turn: usize,
    /// Until when nobody is taken.
    rest: Option<Instant>,
}

/// A socket of the host, and where its clients want to go.
pub enum Door {
    /// Each client is a connection, which the guest is asked for so.
    Listener(OwnedFd, Connect),
    /// Each client is who sends datagrams from one address.
    Flows(Flows),
}

/// A client.
struct Session {
    /// Number of the doors it came by.
    owner: u64,
    way: Way,
    /// Whether the guest has told its end.
    has_ended: bool,
}

enum Way {
    Connection(Endpoint),
    /// It is known to the door of that number.
    Flow(usize),
    /// Nothing of it is left here.
    Gone,
}

/// What the loop waits for.
#[derive(Clone, Copy)]
enum Source {
    Guest,
    Other,
    Door(u64, usize),
    Session(u32),
}

/// Where clients of a TCP or UNIX socket want to go. `patient`: they wait for a program to listen.
pub fn target(address: SocketAddr, patient: bool) -> Connect {
    Connect {
        address,
        datagrams: false,
        patient,
    }
}

impl Door {
    /// Connections to `socket`, which may listen already, go to `target`.
    ///
    /// # Errors
    /// The socket cannot listen.
    pub fn listening(socket: OwnedFd, target: Connect) -> Result<Self> {
        listen(&socket, BACKLOG).context("cannot listen")?;
        Self::of_listener(socket, target)
    }

    /// Connections to `socket`, at which somebody listens, go to `target`.
    fn of_listener(socket: OwnedFd, target: Connect) -> Result<Self> {
        ioctl_fionbio(&socket, true)?;
        Ok(Self::Listener(socket, target))
    }

    /// Datagrams to `socket` go to `target`.
    ///
    /// # Errors
    /// The socket is no good.
    pub fn of_datagrams(socket: UdpSocket, target: SocketAddr) -> Result<Self> {
        Flows::new(socket, target).map(Self::Flows)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Listener(socket, _) => socket.as_fd(),
            Self::Flows(flows) => flows.as_fd(),
        }
    }
}

/// The doors of a port of the host's, and its file if it is a UNIX socket.
///
/// # Errors
/// The socket is no good.
pub fn doors(socket: Socket, target: Connect) -> Result<(Vec<Door>, Option<SocketFile>)> {
    let mut file = None;
    let door = match socket {
        Socket::Tcp(listener) => Door::listening(listener.into(), target)?,
        Socket::Udp(socket) => Door::of_datagrams(socket, target.address)?,
        Socket::Unix(unix) => {
            file = Some(unix.file);
            Door::listening(unix.socket, target)?
        }
        // How many may wait is systemd's to say.
        Socket::Handed(sockets) => {
            let doors = sockets
                .into_iter()
                .map(|socket| Door::of_listener(socket, target));
            return Ok((doors.collect::<Result<_>>()?, None));
        }
    };
    Ok((vec![door], file))
}

impl Carrier {
    /// Over a connection that nobody else uses.
    ///
    /// # Errors
    /// It is closed.
    pub fn new(guest: Connection) -> Result<Self> {
        guest.stream().set_nonblocking(true)?;
        Ok(Self {
            guest,
            outbox: Outbox::default(),
            doors: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next: MACHINE + 1,
            turn: 0,
            rest: None,
        })
    }

    /// Lets clients in by `doors` until [`Self::close`] is called with the same number.
    pub fn open(&mut self, owner: u64, doors: Vec<Door>) {
        self.doors.insert(owner, doors);
    }

    /// Closes doors, and the connections of all who came by them.
    pub fn close(&mut self, owner: u64) {
        for (id, session) in &mut self.sessions {
            if session.owner == owner {
                match &mut session.way {
                    Way::Connection(endpoint) => endpoint.abort(&mut self.outbox),
                    Way::Flow(_) => flows::say_end(*id, &mut self.outbox),
                    Way::Gone => {}
                }
                session.way = Way::Gone;
            }
        }
        self.doors.remove(&owner);
    }

    /// The doors, for another to let clients in by. The connections of this one are closed.
    pub fn into_doors(mut self, owner: u64) -> Vec<Door> {
        self.doors.remove(&owner).unwrap_or_default()
    }

    /// Carries until `other` can be read. False: the guest has closed the connection before.
    ///
    /// # Errors
    /// The guest broke the protocol.
    pub fn carry_until(&mut self, other: Option<BorrowedFd<'_>>) -> Result<bool> {
        loop {
            match self.outbox.flush(self.guest.stream()) {
                Ok(()) => {}
                Err(error) if has_gone(&error) => return Ok(false),
                Err(error) => return Err(error).context("cannot write to the guest"),
            }
            let ready = self.wait(other)?;
            self.turn = self.turn.wrapping_add(1);
            let first = self.turn.checked_rem(ready.len()).unwrap_or(0);
            let (later, sooner) = ready.split_at(first);
            let mut is_other = false;
            for (source, events) in sooner.iter().chain(later) {
                match *source {
                    Source::Guest if !self.hear()? => return Ok(false),
                    Source::Guest => {}
                    Source::Other => is_other = true,
                    Source::Door(owner, nth) => self.welcome(owner, nth),
                    Source::Session(id) => {
                        if let Some(Session {
                            way: Way::Connection(endpoint),
                            ..
                        }) = self.sessions.get_mut(&id)
                        {
                            endpoint.ready(*events, &mut self.outbox);
                        }
                    }
                }
            }
            self.sweep();
            if is_other {
                return Ok(true);
            }
        }
    }

    fn wait(&mut self, other: Option<BorrowedFd<'_>>) -> Result<Vec<(Source, PollFlags)>> {
        let now = Instant::now();
        self.rest = self.rest.filter(|rest| *rest > now);
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, !self.outbox.is_empty());
        let mut sources = vec![Source::Guest];
        let mut fds = vec![PollFd::new(self.guest.stream(), interest)];
        if let Some(other) = other {
            sources.push(Source::Other);
            fds.push(PollFd::from_borrowed_fd(other, PollFlags::IN));
        }
        if self.has_room() && self.rest.is_none() {
            for (owner, doors) in &self.doors {
                for (nth, door) in doors.iter().enumerate() {
                    sources.push(Source::Door(*owner, nth));
                    fds.push(PollFd::from_borrowed_fd(door.descriptor(), PollFlags::IN));
                }
            }
        }
        for (id, session) in &self.sessions {
            if let Way::Connection(endpoint) = &session.way {
                let interest = endpoint.interest(&self.outbox);
                if !interest.is_empty() {
                    sources.push(Source::Session(*id));
                    fds.push(PollFd::new(endpoint, interest));
                }
            }
        }
        let flows = self.flows().any(|flows| !flows.is_empty());
        let timeout = match self.rest {
            Some(rest) => Some(rest - now),
            None => flows.then_some(flows::IDLE),
        };
        poll::wait(&mut fds, timeout)?;
        let ready = sources.into_iter().zip(&fds);
        Ok(ready
            .map(|(source, fd)| (source, fd.revents()))
            .filter(|(_, events)| !events.is_empty())
            .collect())
    }

    fn flows(&self) -> impl Iterator<Item = &Flows> {
        self.doors.values().flatten().filter_map(|door| match door {
            Door::Flows(flows) => Some(flows),
            Door::Listener(..) => None,
        })
    }

    /// Whether one more can be taken.
    fn has_room(&self) -> bool {
        self.sessions.len() < MAX_CONNECTIONS && self.outbox.has_room()
    }

    /// Takes those who wait at a door.
    fn welcome(&mut self, owner: u64, nth: usize) {
        for _ in 0..AT_ONCE {
            let id = self.free_number();
            if !self.has_room() {
                return;
            }
            let door = self.doors.get_mut(&owner).and_then(|of| of.get_mut(nth));
            let way = match door {
                Some(Door::Listener(socket, target)) => {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    match accept_with(socket, flags) {
                        Ok(client) => {
                            // A UNIX socket has no such delay.
                            let _ = set_tcp_nodelay(&client, true);
                            self.outbox.push(id, &Message::Connect(*target));
                            let form = Form::Bytes;
                            let endpoint = Endpoint::new(id, client, form, Side::Host, false);
                            Some(Way::Connection(endpoint))
                        }
                        Err(Errno::CONNABORTED | Errno::INTR) => None,
                        Err(Errno::AGAIN) => return,
                        Err(_) => {
                            self.rest = Some(Instant::now() + REST);
                            return;
                        }
                    }
                }
                Some(Door::Flows(flows)) => match flows.hear(id, &mut self.outbox) {
                    Ok(is_new) => is_new.then_some(Way::Flow(nth)),
                    Err(_) => return,
                },
                None => return,
            };
            if let Some(way) = way {
                let session = Session {
                    owner,
                    way,
                    has_ended: false,
                };
                self.sessions.insert(id, session);
            }
        }
    }

    fn free_number(&mut self) -> u32 {
        while self.next == MACHINE || self.sessions.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        self.next
    }

    /// Takes what the guest says. False at the end.
    fn hear(&mut self) -> Result<bool> {
        for _ in 0..READS_AT_ONCE {
            match self.guest.fill() {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if is_transient(&error) => {}
                Err(error) if has_gone(&error) => return Ok(false),
                Err(error) => return Err(error).context("cannot read from the guest"),
            }
            while let Some((id, message)) = self.guest.next_message()? {
                let session = self.sessions.get_mut(&id);
                let session = session.filter(|session| !session.has_ended);
                let session = session
                    .with_context(|| format!("the guest speaks in session {id}, which is over"))?;
                session.has_ended = message.ends_session();
                match &mut session.way {
                    Way::Connection(endpoint) if session.has_ended => {
                        endpoint.finish(&mut self.outbox);
                    }
                    Way::Connection(endpoint) => endpoint.take(&message, &mut self.outbox)?,
                    Way::Flow(nth) => {
                        let doors = self.doors.get_mut(&session.owner);
                        if let Some(Door::Flows(flows)) = doors.and_then(|of| of.get_mut(*nth)) {
                            flows.take(id, &message, &mut self.outbox)?;
                        }
                    }
                    Way::Gone => {}
                }
            }
        }
        Ok(true)
    }

    /// Forgets those who have gone.
    fn sweep(&mut self) {
        let doors = self.doors.values_mut().flatten();
        for flows in doors.filter_map(|door| match door {
            Door::Flows(flows) => Some(flows),
            Door::Listener(..) => None,
        }) {
            for id in flows.end_idle(&mut self.outbox) {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.way = Way::Gone;
                }
            }
        }
        self.sessions.retain(|_, session| {
            let is_gone = match &session.way {
                Way::Connection(endpoint) => endpoint.is_over(),
                Way::Flow(_) => session.has_ended,
                Way::Gone => true,
            };
            if is_gone {
                // Closes the socket.
                session.way = Way::Gone;
            }
            !(is_gone && session.has_ended)
        });
    }
}

/// Whether the guest's end is closed.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
