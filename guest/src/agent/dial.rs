//! Connections of the host to ports in the guest.
//!
//! The one thing to know: where the host is patient, nobody listening yet is no refusal. The port is
//! tried again and again, and what the host sends meanwhile waits, within its window.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, set_tcp_nodelay, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};

use crate::endpoint::{Endpoint, Form};
use crate::outbox::Outbox;
use crate::protocol::{Connect, Message, Side};

/// For a program to listen: what systemd gives a service to start in.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The end in the guest of a session of the host's that is a connection.
pub(super) struct Connection {
    endpoint: Endpoint,
    wanted: Connect,
    /// Until when it is tried again; none once somebody has been there.
    patience: Option<Instant>,
    /// When it is tried next. There is nothing to wait for meanwhile.
    next: Option<Instant>,
}

impl Connection {
    /// The end of session `id`. Whether somebody is there shows later.
    pub(super) fn dial(id: u32, wanted: Connect) -> Result<Self, Errno> {
        let (socket, outcome) = dial(wanted)?;
        let now = Instant::now();
        let is_refused = outcome == Err(Errno::CONNREFUSED);
        if !(is_refused && wanted.patient) {
            outcome?;
        }
        let form = if wanted.datagrams {
            Form::Datagrams
        } else {
            Form::Bytes
        };
        let is_connecting = outcome != Ok(Stage::Connected);
        Ok(Self {
            endpoint: Endpoint::new(id, socket, form, Side::Guest, is_connecting),
            wanted,
            patience: (wanted.patient && is_connecting).then(|| now + PATIENCE),
            next: is_refused.then(|| now + PAUSE),
        })
    }

    /// What to wait for, if there is anything.
    pub(super) fn watch(&self, outbox: &Outbox) -> Option<PollFd<'_>> {
        let interest = self.endpoint.interest(outbox);
        let is_idle = self.next.is_some() || interest.is_empty();
        (!is_idle).then(|| PollFd::new(&self.endpoint, interest))
    }

    /// When it is tried again, if it is to be.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Does what the socket is ready for.
    pub(super) fn ready(&mut self, events: PollFlags, outbox: &mut Outbox) {
        if self.patience.is_some_and(|until| Instant::now() < until)
            && events.intersects(PollFlags::ERR | PollFlags::HUP)
            && matches!(socket_error(&self.endpoint), Ok(Err(Errno::CONNREFUSED)))
        {
            self.next = Some(Instant::now() + PAUSE);
            return;
        }
        self.patience = None;
        self.endpoint.ready(events, outbox);
    }

    /// Tries again, if it is time to.
    pub(super) fn try_again(&mut self, now: Instant) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = None;
        let is_over = self.patience.is_none_or(|until| now >= until);
        match dial(self.wanted) {
            Ok((_, Err(Errno::CONNREFUSED))) if !is_over => self.next = Some(now + PAUSE),
            // What it is like shows when it is waited for.
            Ok((socket, _)) => self.endpoint.redial(socket),
            // The guest has no descriptor left just now.
            Err(_) => self.next = Some(now + PAUSE),
        }
    }

    /// Takes what the host says of this connection.
    pub(super) fn take(&mut self, message: &Message<'_>, outbox: &mut Outbox) -> Result<()> {
        self.endpoint.take(message, outbox)
    }

    /// Whether both ways have ended.
    pub(super) fn is_over(&self) -> bool {
        self.endpoint.is_over()
    }
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Connected,
}

/// A socket, and what came of having it connected.
fn dial(wanted: Connect) -> Result<(OwnedFd, Result<Stage, Errno>), Errno> {
    let family = if wanted.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = if wanted.datagrams {
        SocketType::DGRAM
    } else {
        SocketType::STREAM
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, kind, flags, None)?;
    if !wanted.datagrams {
        // What comes in one frame was written at once.
        set_tcp_nodelay(&socket, true)?;
    }
    let connected = connect(&socket, &wanted.address);
    let own = getsockname(&socket)
        .ok()
        .and_then(|own| own.try_into().ok());
    if own == Some(wanted.address) {
        // The kernel has picked the very port that nobody listens at: it is connected with itself.
        // Ended without a trace, it is the program's again.
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        drop(socket);
        return dial(wanted);
    }
    let outcome = match connected {
        Ok(()) => Ok(Stage::Connected),
        Err(Errno::INPROGRESS) => Ok(Stage::Connecting),
        Err(errno) => Err(errno),
    };
    Ok((socket, outcome))
}
