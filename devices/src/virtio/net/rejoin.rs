//! A stream of frames whose other end may be replaced: when it ends, another one is fetched, and the
//! card goes on with that. Frames of the meantime are lost, as on any cable that is pulled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use anyhow::Context;
use rustix::event::{EventfdFlags, eventfd};

use super::Backend;
use super::header::Header;
use super::posted::Posted;
use super::stream::Stream;
use crate::log;
use crate::virtio::Buffers;

/// Fetches another stream, in a thread of its own; an error is the end of the card's link.
pub type Fetch = Box<dyn FnMut() -> io::Result<UnixStream> + Send>;

/// A stream, and how to come by the next one.
pub struct Rejoining {
    name: String,
    stream: Stream,
    /// The one before: its descriptor's number is not another's until nobody waits for it any more.
    before: Option<Stream>,
    state: State,
    /// Rung when another stream is there.
    bell: OwnedFd,
}

/// How it is with the stream.
enum State {
    Joined(Fetch),
    /// It has ended, and another one is on its way.
    Waiting(Receiver<Fetched>),
    /// There is none any more.
    Over,
}

/// Another stream, and how to come by the one after that.
type Fetched = (Fetch, io::Result<UnixStream>);

impl Rejoining {
    /// A card called `name` in messages, on `socket` until that ends.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new(name: String, socket: UnixStream, fetch: Fetch) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            stream: Stream::new(socket).context("cannot use a socket")?,
            before: None,
            state: State::Joined(fetch),
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
                .context("cannot create an eventfd")?,
        })
    }

    /// The stream has ended with `error`.
    fn lose(&mut self, error: &io::Error) -> io::Error {
        let State::Joined(mut fetch) = std::mem::replace(&mut self.state, State::Over) else {
            return io::ErrorKind::WouldBlock.into();
        };
        log::tell(format_args!(
            "{}: the host's side of this network card has ended ({error}); joining again",
            self.name
        ));
        self.before = None;
        let (sender, fetched) = mpsc::channel();
        let bell = self.bell.try_clone();
        let started = bell.and_then(|bell| {
            let thread = thread::Builder::new().name("rejoin".into());
            thread.spawn(move || {
                let stream = fetch();
                // The card may be gone meanwhile.
                let _ = sender.send((fetch, stream));
                let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
            })
        });
        match started {
            Ok(_) => {
                self.state = State::Waiting(fetched);
                io::ErrorKind::WouldBlock.into()
            }
            Err(error) => error,
        }
    }

    /// Goes on with the next stream, if that is there; fails as the card does until then.
    fn ensure_joined(&mut self) -> io::Result<()> {
        let fetched = match &self.state {
            State::Joined(_) => return Ok(()),
            State::Waiting(fetched) => fetched.try_recv(),
            State::Over => Err(TryRecvError::Disconnected),
        };
        let over = || io::Error::other("there is no other");
        let (fetch, socket) = match fetched {
            Ok(fetched) => fetched,
            Err(TryRecvError::Empty) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryRecvError::Disconnected) => return Err(over()),
        };
        // Empty if the ringing is still to come: then it is heard in vain once.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.state = State::Over;
        let next = Stream::new(socket?)?;
        self.before = Some(std::mem::replace(&mut self.stream, next));
        self.state = State::Joined(fetch);
        Ok(())
    }
}

/// Whether it is the end of a stream.
fn is_end(error: &io::Error) -> bool {
    let waits = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    !waits.contains(&error.kind())
}

impl Backend for Rejoining {
    fn features(&self) -> u64 {
        self.stream.features()
    }

    fn start(&mut self, features: u64) -> anyhow::Result<()> {
        self.stream.start(features)
    }

    fn stop(&mut self) {
        self.stream.stop();
    }

    fn close(&mut self) {
        self.stream.close();
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self.state {
            State::Joined(_) => self.stream.fd(),
            State::Waiting(_) | State::Over => self.bell.as_fd(),
        }
    }

    fn send(&mut self, header: &Header, frame: &mut Buffers) -> io::Result<()> {
        match self.ensure_joined() {
            Err(error) if is_end(&error) => return Err(error),
            // Lost.
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        match self.stream.send(header, frame) {
            // Lost. The end is found where frames are received, which one may have begun to be.
            Err(error) if is_end(&error) => Ok(()),
            sent => sent,
        }
    }

    fn has_ahead(&self) -> bool {
        matches!(self.state, State::Joined(_)) && self.stream.has_ahead()
    }

    fn next_bytes(&mut self, limit: usize) -> io::Result<Option<usize>> {
        self.ensure_joined()?;
        match self.stream.next_bytes(limit) {
            Err(error) if is_end(&error) => Err(self.lose(&error)),
            next => next,
        }
    }

    fn receive(&mut self, posted: &mut Posted) -> io::Result<Option<Header>> {
        match self.stream.receive(posted) {
            Err(error) if is_end(&error) => {
                posted.rewind();
                Err(self.lose(&error))
            }
            received => received,
        }
    }
}
