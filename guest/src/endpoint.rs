//! One end of a connection that goes over the protocol, on either side: a socket that does not
//! block, and the credit of both ways.
//!
//! The one thing to know: the two ways are apart. Each ends by itself, and a reader that stands
//! still stops its own way alone: what waits for it is at most [`CONNECTION_WINDOW`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, ensure};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use crate::inlet::Inlet;
use crate::outbox::Outbox;
use crate::protocol::{CONNECTION_WINDOW, HEADER_SIZE, MAX_PAYLOAD, Message, Side, Stream};

/// Credit goes back when this much has been passed on: often enough that the other side never
/// stands still, seldom enough that the messages do not count.
pub const CREDIT_STEP: u32 = CONNECTION_WINDOW / 4;

/// What is read at once: with its header it is two of the largest writes that a port takes. No
/// datagram is longer (65,507 bytes, UDP's maximum over IPv4).
const READ_SIZE: usize = MAX_PAYLOAD - HEADER_SIZE;

/// What the socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bytes in a row.
    Bytes,
    /// Datagrams: each is a frame, and one that cannot be passed on at once is lost.
    Datagrams,
}

/// One end of a connection.
pub struct Endpoint {
    id: u32,
    socket: OwnedFd,
    form: Form,
    /// Where the socket's bytes go.
    sends: Stream,
    /// Where bytes for the socket come from.
    receives: Stream,
    /// Whether it is still being connected: until it is, nothing is written, nor its end told.
    is_connecting: bool,
    /// Bytes that the other side takes.
    credit: u32,
    /// Whether the socket is read: until its end, or as long as the other side has a reader.
    is_read: bool,
    /// Received and not yet taken by the socket.
    inlet: Inlet,
    writing: Writing,
}

/// How far the way to the socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// More may come.
    Open,
    /// Nothing comes after what waits.
    Ending,
    /// The socket is told no more: that was all, or its reader has gone.
    Over,
}

impl Endpoint {
    /// The end on `side` of session `id`. `is_connecting`: the socket is not connected yet.
    pub fn new(id: u32, socket: OwnedFd, form: Form, side: Side, is_connecting: bool) -> Self {
        let (sends, receives) = match side {
            Side::Host => (Stream::Stdin, Stream::Stdout),
            Side::Guest => (Stream::Stdout, Stream::Stdin),
        };
        Self {
            id,
            socket,
            form,
            sends,
            receives,
            is_connecting,
            credit: CONNECTION_WINDOW,
            is_read: true,
            inlet: Inlet::default(),
            writing: Writing::Open,
        }
    }

    /// What to wait for. Where that is nothing, the socket is not to be waited for at all: it would
    /// be told of as hung up again and again.
    pub fn interest(&self, outbox: &Outbox) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.may_read(outbox));
        interest.set(PollFlags::OUT, self.is_connecting || !self.inlet.is_empty());
        interest
    }

    /// Does what the socket is ready for.
    pub fn ready(&mut self, events: PollFlags, outbox: &mut Outbox) {
        let hung_up = PollFlags::HUP | PollFlags::ERR;
        if events.intersects(PollFlags::OUT | hung_up) {
            self.is_connecting = false;
            self.write(outbox);
        }
        if events.intersects(PollFlags::IN | hung_up) && self.may_read(outbox) {
            self.read(outbox);
        }
    }

    /// Goes on with `socket`, which is being connected, as the one before never was.
    pub fn redial(&mut self, socket: OwnedFd) {
        self.socket = socket;
    }

    /// Takes what the other side says of this connection.
    ///
    /// # Errors
    /// It broke the protocol.
    pub fn take(&mut self, message: &Message<'_>, outbox: &mut Outbox) -> Result<()> {
        match message {
            Message::Data { stream, bytes } => {
                ensure!(*stream == self.receives, "{stream:?} of a connection");
                self.take_data(bytes, outbox)?;
            }
            Message::Eof(stream) => {
                ensure!(*stream == self.receives, "{stream:?} of a connection");
                self.take_end(outbox);
            }
            Message::Credit { bytes, .. } => {
                self.credit = self.credit.saturating_add(*bytes);
                ensure!(
                    self.credit <= CONNECTION_WINDOW,
                    "credit for {bytes} bytes that were not sent"
                );
            }
            Message::Close(_) => self.is_read = false,
            _ => {}
        }
        Ok(())
    }

    /// Nothing more goes either way but what waits: the other side has ended the session.
    pub fn finish(&mut self, outbox: &mut Outbox) {
        self.is_read = false;
        self.take_end(outbox);
    }

    /// Nothing more goes either way.
    pub fn abort(&mut self, outbox: &mut Outbox) {
        self.end_reading(outbox);
        self.end_writing(outbox);
    }

    /// Whether both ways have ended.
    pub fn is_over(&self) -> bool {
        !self.is_read && self.writing == Writing::Over
    }

    fn may_read(&self, outbox: &Outbox) -> bool {
        // Of a datagram that is read in part, the rest is lost.
        let least = match self.form {
            Form::Bytes => 1,
            Form::Datagrams => READ_SIZE,
        };
        self.is_read && self.credit as usize >= least && outbox.has_room()
    }

    fn read(&mut self, outbox: &mut Outbox) {
        let limit = READ_SIZE.min(self.credit as usize);
        match outbox.read_from(&self.socket, self.id, self.sends, limit) {
            Ok(count) if count > 0 => self.credit -= count as u32,
            Err(Errno::INTR | Errno::AGAIN) => {}
            // One without a byte, which no frame is made for; or one of ours found nobody.
            _ if self.form == Form::Datagrams => {}
            Ok(_) => self.end_reading(outbox),
            Err(_) => self.abort(outbox),
        }
    }

    fn take_data(&mut self, bytes: &[u8], outbox: &mut Outbox) -> Result<()> {
        if self.writing == Writing::Over {
            // Under way when its reader's end was told.
            return Ok(());
        }
        let under_way = self.inlet.under_way() + bytes.len();
        ensure!(
            under_way <= CONNECTION_WINDOW as usize && self.writing == Writing::Open,
            "{} bytes of a connection without credit",
            bytes.len()
        );
        match self.form {
            Form::Datagrams => {
                if !self.is_connecting {
                    let _ = rustix::io::write(&self.socket, bytes);
                }
                self.inlet.skip(bytes.len());
            }
            Form::Bytes if self.is_connecting => self.inlet.push(bytes),
            Form::Bytes => self.inlet.take(&self.socket, bytes),
        }
        self.write(outbox);
        Ok(())
    }

    /// Nothing comes after what waits.
    fn take_end(&mut self, outbox: &mut Outbox) {
        if self.writing == Writing::Open {
            self.writing = Writing::Ending;
        }
        self.write(outbox);
    }

    /// Writes what the socket takes.
    fn write(&mut self, outbox: &mut Outbox) {
        if self.is_connecting || self.writing == Writing::Over {
            return;
        }
        if self.inlet.flush(&self.socket).is_err() {
            return self.end_writing(outbox);
        }
        if self.inlet.is_empty() && self.writing == Writing::Ending {
            self.writing = Writing::Over;
            // One that has gone needs not be told.
            let _ = shutdown(&self.socket, Shutdown::Write);
        } else if let Some(bytes) = self.inlet.credit(CREDIT_STEP) {
            let stream = self.receives;
            outbox.push(self.id, &Message::Credit { stream, bytes });
        }
    }

    /// The socket says no more.
    fn end_reading(&mut self, outbox: &mut Outbox) {
        if std::mem::replace(&mut self.is_read, false) {
            outbox.push(self.id, &Message::Eof(self.sends));
        }
    }

    /// The socket takes no more.
    fn end_writing(&mut self, outbox: &mut Outbox) {
        self.inlet.clear();
        if std::mem::replace(&mut self.writing, Writing::Over) != Writing::Over {
            outbox.push(self.id, &Message::Close(self.receives));
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    static CHUNK: [u8; MAX_PAYLOAD] = [1; MAX_PAYLOAD];

    /// The guest's end of a connection, what it is connected with, and its words.
    fn endpoint() -> (Endpoint, UnixStream, Outbox) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let endpoint = Endpoint::new(1, ours.into(), Form::Bytes, Side::Guest, false);
        (endpoint, theirs, Outbox::default())
    }

    fn data(bytes: &[u8]) -> Message<'_> {
        let stream = Stream::Stdin;
        Message::Data { stream, bytes }
    }

    #[test]
    fn more_than_the_window_is_an_error() {
        let (mut endpoint, _theirs, mut outbox) = endpoint();
        let mut given = 0;
        let error = loop {
            match endpoint.take(&data(&CHUNK), &mut outbox) {
                Ok(()) => given += CHUNK.len(),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(error, "65536 bytes of a connection without credit");
        // What the socket itself holds is given credit for again.
        assert!(given < 4 * CONNECTION_WINDOW as usize, "{given}");
        assert!(endpoint.inlet.under_way() <= CONNECTION_WINDOW as usize);
    }

    #[test]
    fn each_way_ends_by_itself() {
        let (mut endpoint, mut theirs, mut outbox) = endpoint();
        endpoint.take(&data(b"all"), &mut outbox).unwrap();
        endpoint
            .take(&Message::Eof(Stream::Stdin), &mut outbox)
            .unwrap();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), endpoint.is_over()), ("all", false));
        theirs.write_all(b"answer").unwrap();
        drop(theirs);
        endpoint.ready(PollFlags::IN, &mut outbox);
        assert!(!endpoint.is_over());
        endpoint.ready(PollFlags::HUP, &mut outbox);
        assert!(endpoint.is_over());
    }

    #[test]
    fn nothing_is_waited_for_without_credit() {
        let (mut endpoint, mut theirs, mut outbox) = endpoint();
        theirs.set_nonblocking(true).unwrap();
        while endpoint.credit > 0 {
            let _ = theirs.write(&CHUNK);
            endpoint.ready(PollFlags::IN, &mut outbox);
            // Nobody hears it, so that there is room.
            outbox = Outbox::default();
        }
        assert!(endpoint.interest(&outbox).is_empty());
        let (stream, bytes) = (Stream::Stdout, 1);
        endpoint
            .take(&Message::Credit { stream, bytes }, &mut outbox)
            .unwrap();
        assert_eq!(endpoint.interest(&outbox), PollFlags::IN);
    }

    #[test]
    fn one_whose_reader_has_gone_says_so_and_takes_no_more() {
        let (mut endpoint, theirs, mut outbox) = endpoint();
        theirs.shutdown(std::net::Shutdown::Read).unwrap();
        endpoint.take(&data(b"lost"), &mut outbox).unwrap();
        endpoint.take(&data(b"lost"), &mut outbox).unwrap();
        assert!(endpoint.writing == Writing::Over && endpoint.is_read);
        let mut said = Vec::new();
        Message::Close(Stream::Stdin).encode(1, &mut said).unwrap();
        let (mut host, guest) = UnixStream::pair().unwrap();
        outbox.flush(&guest).unwrap();
        drop(guest);
        let mut words = Vec::new();
        host.read_to_end(&mut words).unwrap();
        assert_eq!(words, said);
    }
}
