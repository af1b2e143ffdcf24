//! The process of a network: its sockets, and the queues of machines that do not read at once.
//!
//! One thread waits for all of them. A machine that has said much gets its next turn after all
//! others that have something to say.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::fabric::{self, Fabric, Verdict, count};
use crate::framing::{Incoming, Outgoing};
use crate::hello::{Answer, HELLO_BYTES_MAX, Join, Request, line};

/// Connections at a time: each address of the network, and as many that come or go or list.
const PORTS_MAX: usize = 512;

/// Bytes that are read from one machine before others get their turn: some of the largest frames.
const READ_BYTES: usize = 256 << 10;

/// Deliveries of one machine's frames to all, before others get their turn: a few milliseconds. What
/// more there is of them is dropped.
const FLOOD_MAX: usize = 4096;

/// Sockets that are told of at once.
const EVENTS_MAX: usize = 64;

/// The number of the socket at which it listens; ports follow.
const LISTENER: fabric::Port = 0;

/// A network's switch.
pub struct Server {
    epoll: OwnedFd,
    listener: UnixListener,
    fabric: Fabric,
    ports: BTreeMap<fabric::Port, Port>,
    last: fabric::Port,
    room: Vec<u8>,
    /// Deliveries to all in this turn.
    flooded: usize,
    /// Since when there is no machine.
    empty_since: Option<Instant>,
}

/// A connection.
struct Port {
    stream: UnixStream,
    state: State,
    outgoing: Outgoing,
    /// Whether it is waited for that it takes more.
    is_behind: bool,
}

enum State {
    /// It has not said what it wants; this much of it.
    Greeting(Vec<u8>),
    /// Frames come.
    Joined(Incoming),
    /// Its answer goes, and then it.
    Leaving,
}

/// Why a connection ends.
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Server {
    /// The switch of the network `name`, whose machines connect to `listener`.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new(name: &str, listener: UnixListener) -> Result<Self> {
        listener
            .set_nonblocking(true)
            .context("cannot use a socket")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        watch(&epoll, &listener, LISTENER).context("cannot wait for a socket")?;
        Ok(Self {
            epoll,
            listener,
            fabric: Fabric::new(name),
            ports: BTreeMap::new(),
            last: LISTENER,
            room: vec![0; Incoming::ROOM_BYTES.saturating_add(READ_BYTES)],
            flooded: 0,
            empty_since: Some(Instant::now()),
        })
    }

    /// Passes frames on until there has been no machine for `linger`, and `turn` is had: while it is
    /// kept, nobody comes.
    ///
    /// # Errors
    /// The host's epoll fails.
    pub fn run<T>(
        &mut self,
        linger: Duration,
        mut turn: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let left = self
                .empty_since
                .map(|since| linger.saturating_sub(since.elapsed()));
            if left == Some(Duration::ZERO) {
                let turn = turn()?;
                // Somebody may have come before.
                self.accept();
                match turn {
                    Some(turn) if self.ports.is_empty() => return Ok(turn),
                    _ => self.empty_since = Some(Instant::now()),
                }
                continue;
            }
            events.clear();
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for sockets"),
            }
            for event in &events {
                let (port, flags) = (event.data.u64(), event.flags);
                match port {
                    LISTENER => self.accept(),
                    port => self.serve(port, flags),
                }
            }
            self.note_emptiness();
        }
    }

    fn note_emptiness(&mut self) {
        if !self.fabric.is_empty() {
            self.empty_since = None;
        } else if self.empty_since.is_none() {
            self.empty_since = Some(Instant::now());
        }
    }

    /// Takes who has connected, as far as there is room; the kernel has the others wait.
    fn accept(&mut self) {
        while self.ports.len() < PORTS_MAX {
            // One that has gone again, or that there is no descriptor for, is not there.
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            let port = self.last.saturating_add(1);
            if stream.set_nonblocking(true).is_err() || watch(&self.epoll, &stream, port).is_err() {
                continue;
            }
            self.last = port;
            let greeting = Port {
                stream,
                state: State::Greeting(Vec::new()),
                outgoing: Outgoing::default(),
                is_behind: false,
            };
            self.ports.insert(port, greeting);
        }
        // Otherwise its readiness would be told without end.
        let _ = epoll::delete(&self.epoll, &self.listener);
    }

    fn serve(&mut self, port: fabric::Port, flags: epoll::EventFlags) {
        let gone = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        let mut served = Ok(());
        if flags.contains(epoll::EventFlags::OUT) {
            served = self.flush(port);
        }
        // What came before the end is read first.
        if flags.intersects(epoll::EventFlags::IN | gone) {
            served = served.and_then(|()| self.read(port));
        }
        if served.is_err() {
            self.remove(port);
        }
    }

    fn remove(&mut self, port: fabric::Port) {
        self.fabric.leave(port);
        let was_full = self.ports.len() >= PORTS_MAX;
        // Its descriptor, of which there is one, takes it out of the epoll.
        if self.ports.remove(&port).is_some() && was_full {
            // Fails where it is there, as it should be.
            let _ = watch(&self.epoll, &self.listener, LISTENER);
        }
    }

    fn flush(&mut self, port: fabric::Port) -> Result<(), Gone> {
        let Some(Port {
            stream, outgoing, ..
        }) = self.ports.get_mut(&port)
        else {
            return Ok(());
        };
        outgoing.flush(&*stream)?;
        self.rewatch(port)
    }

    /// Waits for room where something waits for that.
    fn rewatch(&mut self, number: fabric::Port) -> Result<(), Gone> {
        let Some(port) = self.ports.get_mut(&number) else {
            return Ok(());
        };
        let is_behind = !port.outgoing.is_empty();
        if !is_behind && matches!(port.state, State::Leaving) {
            return Err(Gone);
        }
        if is_behind != port.is_behind {
            port.is_behind = is_behind;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, is_behind);
            let data = epoll::EventData::new_u64(number);
            epoll::modify(&self.epoll, &port.stream, data, flags).map_err(|_| Gone)?;
        }
        Ok(())
    }

    fn read(&mut self, number: fabric::Port) -> Result<(), Gone> {
        self.flooded = 0;
        let mut room = std::mem::take(&mut self.room);
        let read = self.read_into(number, &mut room);
        self.room = room;
        read
    }

    fn read_into(&mut self, number: fabric::Port, room: &mut [u8]) -> Result<(), Gone> {
        let Some(port) = self.ports.get_mut(&number) else {
            return Ok(());
        };
        let left = match &mut port.state {
            State::Joined(incoming) => incoming.restore(room),
            State::Greeting(_) | State::Leaving => 0,
        };
        let behind = room.get_mut(left..).unwrap_or_default();
        let read = match (&port.stream).read(behind) {
            Ok(0) => return Err(Gone),
            Ok(read) => read,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                0
            }
            Err(error) => return Err(error.into()),
        };
        let bytes = room.get(..left.saturating_add(read)).unwrap_or_default();
        match &mut port.state {
            State::Joined(incoming) => {
                let mut incoming = std::mem::take(incoming);
                let taken = incoming.take(bytes, |frame| self.pass(number, frame));
                if let Some(Port { state, .. }) = self.ports.get_mut(&number) {
                    *state = State::Joined(incoming);
                }
                taken.map_err(|_| Gone)
            }
            State::Greeting(said) => {
                said.extend_from_slice(bytes);
                match said.iter().position(|byte| *byte == b'\n') {
                    Some(_) => self.greet(number),
                    None if said.len() > HELLO_BYTES_MAX => Err(Gone),
                    None => Ok(()),
                }
            }
            State::Leaving => Ok(()),
        }
    }

    /// Does what was asked for in a line. Who joins says nothing more before it is answered.
    fn greet(&mut self, number: fabric::Port) -> Result<(), Gone> {
        let Some(Port { state, .. }) = self.ports.get_mut(&number) else {
            return Ok(());
        };
        let State::Greeting(said) = std::mem::replace(state, State::Leaving) else {
            return Ok(());
        };
        let answer = match serde_json::from_slice(&said) {
            Ok(Request::Join(join)) => self.join(number, join),
            Ok(Request::List) => Answer::Members(self.fabric.told()),
            Err(error) => {
                Answer::Error(format!("it is carried by another version of mvm ({error})"))
            }
        };
        let Some(port) = self.ports.get_mut(&number) else {
            return Ok(());
        };
        if matches!(answer, Answer::Welcome(_)) {
            port.state = State::Joined(Incoming::default());
        }
        port.outgoing.push(&line(&answer).map_err(|_| Gone)?);
        self.flush(number)
    }

    fn join(&mut self, number: fabric::Port, join: Join) -> Answer {
        // Of a machine's two processes the later one lives.
        if let Some(before) = self.fabric.port_of(&join.name) {
            self.remove(before);
        }
        match self.fabric.join(number, join) {
            Ok(welcome) => Answer::Welcome(welcome),
            Err(words) => Answer::Error(words),
        }
    }

    fn pass(&mut self, from: fabric::Port, frame: &[u8]) {
        match self.fabric.pass(from, frame) {
            Verdict::Drop => {}
            Verdict::Answer(answer) => {
                self.deliver(from, &answer);
            }
            Verdict::Deliver(to) => self.deliver(to, frame),
            Verdict::Flood => {
                let others: Vec<_> = self.fabric.others(from).collect();
                self.flooded = self.flooded.saturating_add(others.len());
                if self.flooded > FLOOD_MAX {
                    count(&mut self.fabric.counters.storm);
                    return;
                }
                for to in others {
                    self.deliver(to, frame);
                }
            }
        }
    }

    /// Gives a frame to the machine at a port. That its stream has ended is told by the epoll, too.
    fn deliver(&mut self, to: fabric::Port, frame: &[u8]) {
        let Some(Port {
            stream, outgoing, ..
        }) = self.ports.get_mut(&to)
        else {
            return;
        };
        let counters = &mut self.fabric.counters;
        match outgoing.send(&*stream, frame) {
            Ok(true) => count(&mut counters.delivered),
            Ok(false) => count(&mut counters.overrun),
            Err(_) => return,
        }
        // As above.
        let _ = self.rewatch(to);
    }
}

fn watch(
    epoll: &OwnedFd,
    socket: impl std::os::fd::AsFd,
    port: fabric::Port,
) -> rustix::io::Result<()> {
    let data = epoll::EventData::new_u64(port);
    epoll::add(epoll, socket, data, epoll::EventFlags::IN)
}

#[cfg(test)]
mod tests;
