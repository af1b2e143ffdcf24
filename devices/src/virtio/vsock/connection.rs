//! One connection between a port of the guest and a stream of the host.
//!
//! ```text
//! the host connects   Requesting ──REQUEST──▶ Requested ──RESPONSE──▶ Open
//! the guest connects  Accepting ──RESPONSE──▶ Open
//! the guest's RST     any ──▶ Over: what it sent before still goes to the host
//! ```
//!
//! The stream is watched for edges: that it was readable is remembered until a read finds nothing,
//! and that it was full is what a [`Backlog`] means.

use std::io::{self, Read};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::io::ioctl_fionread;
use vmm_sys_util::epoll::EventSet;
use zerocopy::IntoBytes;

use super::super::{Buffers, Fault};
use super::backlog::Backlog;
use super::credit::Credit;
use super::packet::{HEADER_BYTES, Header, Shutdown, op};

/// Data of one packet, so that connections take turns: what Linux sends at most
/// (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`). Its receive buffers are smaller.
const PACKET_BYTES_MAX: u32 = 64 << 10;

/// What the kernel says of a stream whose other end is closed.
const GONE: EventSet = EventSet::HANG_UP.union(EventSet::ERROR);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The guest is to be asked.
    Requesting,
    /// The guest was asked.
    Requested,
    /// The guest asked, and is to be told that the host accepts.
    Accepting,
    /// Both sides know of it.
    Open,
    /// The guest has forgotten it.
    Over,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Lives,
    /// It has ended, and the guest is to be told by a RST.
    Reset,
    /// It has ended, and the guest knows or never knew of it.
    Forgotten,
}

/// What the guest is to be told next.
enum Owed {
    Request,
    Response,
    Data,
    Shutdown,
    Credit,
}

/// A connection and the host's stream.
pub struct Connection {
    stream: UnixStream,
    phase: Phase,
    credit: Credit,
    backlog: Backlog,
    /// The stream may have bytes or an end for the guest.
    readable: bool,
    /// The guest asked how much it may send.
    credit_asked: bool,
    /// The host closed its end before the guest accepted, and had not written anything.
    abandoned: bool,
    /// What the guest will not do any more.
    guest: Shutdown,
    /// What the host will not do any more, and what the guest knows of that.
    host: Shutdown,
    told: Shutdown,
}

impl Connection {
    /// A connection over a non-blocking `stream`, on which the guest may have `window_bytes` that
    /// the host has not taken.
    pub fn new(stream: UnixStream, phase: Phase, window_bytes: u32) -> Self {
        Self {
            stream,
            phase,
            credit: Credit::new(window_bytes),
            backlog: Backlog::default(),
            readable: false,
            credit_asked: false,
            abandoned: false,
            guest: Shutdown::empty(),
            host: Shutdown::empty(),
            told: Shutdown::empty(),
        }
    }

    /// The host's end.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Bytes for which the guest has credit.
    pub fn window_bytes(&self) -> u32 {
        self.credit.window()
    }

    /// Whether the guest has forgotten it.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether it goes on.
    pub fn fate(&self) -> Fate {
        let passed_on = self.backlog.is_empty();
        match self.phase {
            Phase::Requesting if self.abandoned => Fate::Forgotten,
            Phase::Requested if self.abandoned => Fate::Reset,
            Phase::Open if passed_on && self.guest.is_all() => Fate::Reset,
            Phase::Over if passed_on => Fate::Forgotten,
            _ => Fate::Lives,
        }
    }

    /// Whether the guest is to be told something.
    pub fn owes(&self) -> bool {
        self.owed().is_some()
    }

    fn owed(&self) -> Option<Owed> {
        match self.phase {
            Phase::Requesting => Some(Owed::Request),
            Phase::Accepting => Some(Owed::Response),
            Phase::Open if self.may_read() => Some(Owed::Data),
            Phase::Open if self.told != self.host => Some(Owed::Shutdown),
            Phase::Open if self.credit_asked || self.credit.is_news() => Some(Owed::Credit),
            Phase::Requested | Phase::Open | Phase::Over => None,
        }
    }

    fn may_read(&self) -> bool {
        self.readable
            && self.credit.may_send() > 0
            && !self.guest.contains(Shutdown::RECEIVE)
            && !self.host.contains(Shutdown::SEND)
    }

    /// Takes a packet of the guest, whose data is what comes first of `payload`. False when the
    /// guest may not send it: the connection is broken.
    pub fn hear(&mut self, header: &Header, payload: &mut Buffers) -> Result<bool, Fault> {
        if header.op == op::RST {
            self.end();
            return Ok(true);
        }
        if !self.hear_credit(header) {
            return Ok(false);
        }
        match (header.op.get(), self.phase) {
            (op::RW, Phase::Open) => return self.receive(header.len.get(), payload),
            (op::RESPONSE, Phase::Requested) => self.phase = Phase::Open,
            (op::SHUTDOWN, Phase::Open) => {
                self.guest_shuts(Shutdown::from_bits_truncate(header.flags.get()));
            }
            (op::CREDIT_REQUEST, _) => self.credit_asked = true,
            (op::CREDIT_UPDATE, _) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What a packet says of the guest's room. False as for [`Connection::hear`].
    #[must_use]
    pub fn hear_credit(&mut self, header: &Header) -> bool {
        let (buf_alloc, fwd_cnt) = (header.buf_alloc.get(), header.fwd_cnt.get());
        self.credit.hear(buf_alloc, fwd_cnt)
    }

    fn receive(&mut self, len: u32, payload: &mut Buffers) -> Result<bool, Fault> {
        let allowed = !self.guest.contains(Shutdown::SEND)
            && len as usize <= payload.remaining_bytes()
            && self.credit.receive(len);
        if !allowed {
            return Ok(false);
        }
        payload.truncate(len as usize);
        if self.backlog.is_empty() {
            self.pass_on(payload);
        }
        if self.is_deaf() {
            self.credit.forward(payload.remaining_bytes() as u32);
        } else if payload.remaining_bytes() > 0 {
            self.backlog.fill(payload, self.credit.window())?;
        }
        Ok(true)
    }

    /// Moves `payload` to the stream, until that is full.
    fn pass_on(&mut self, payload: &mut Buffers) {
        while payload.remaining_bytes() > 0 && !self.is_deaf() {
            match payload.write_to(self.stream.as_fd()) {
                // No more than the payload, whose length is a 32 bit number.
                Ok(bytes) => self.credit.forward(bytes as u32),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.deafen(),
            }
        }
    }

    fn guest_shuts(&mut self, what: Shutdown) {
        self.guest |= what;
        if what.contains(Shutdown::RECEIVE) {
            self.stop_reading();
        }
        self.pass_on_end();
    }

    /// The guest forgot the connection.
    fn end(&mut self) {
        self.phase = Phase::Over;
        self.guest = Shutdown::all();
        self.stop_reading();
        self.pass_on_end();
    }

    /// Lets the host know that what it writes is read no more, and throws away what it wrote: an
    /// end that is closed with bytes unread would be an error for the host, and not its end.
    fn stop_reading(&mut self) {
        // Fails where the host has gone.
        let _ = self.stream.shutdown(net::Shutdown::Read);
        let mut piece = [0; 4096];
        // Ends: nothing comes after the shutdown.
        while matches!((&self.stream).read(&mut piece), Ok(1..)) {}
    }

    /// Lets the host read the guest's end, once it has all that came before.
    fn pass_on_end(&self) {
        if self.guest.contains(Shutdown::SEND) && self.backlog.is_empty() {
            // Fails where the host has gone.
            let _ = self.stream.shutdown(net::Shutdown::Write);
        }
    }

    /// The stream changed.
    pub fn stream_ready(&mut self, events: EventSet) {
        if events.intersects(GONE) {
            self.deafen();
            self.abandoned = ioctl_fionread(&self.stream).is_ok_and(|bytes| bytes == 0);
        }
        if events.intersects(GONE | EventSet::IN) {
            self.readable = true;
        }
        if !self.backlog.is_empty() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let before = self.backlog.bytes();
        let flushed = self.backlog.flush(&self.stream);
        let bytes = before.saturating_sub(self.backlog.bytes());
        self.credit.forward(bytes);
        if flushed.is_err() {
            self.deafen();
        }
        self.pass_on_end();
    }

    fn is_deaf(&self) -> bool {
        self.host.contains(Shutdown::RECEIVE)
    }

    /// Nobody reads the stream any more: what the guest sends vanishes.
    fn deafen(&mut self) {
        self.host |= Shutdown::RECEIVE;
        self.credit.forward(self.backlog.bytes());
        self.backlog.clear();
    }

    /// Writes the packet that is due to a buffer of the guest, which holds more than a header;
    /// says how many bytes, or none when nothing was due after all.
    pub fn speak(
        &mut self,
        mut header: Header,
        buffer: &mut Buffers,
    ) -> Result<Option<usize>, Fault> {
        let mut bytes = 0;
        let op = match self.owed() {
            None => return Ok(None),
            Some(Owed::Request) => {
                self.phase = Phase::Requested;
                op::REQUEST
            }
            Some(Owed::Response) => {
                self.phase = Phase::Open;
                op::RESPONSE
            }
            Some(Owed::Shutdown) => {
                self.told = self.host;
                header.flags = self.host.bits().into();
                op::SHUTDOWN
            }
            Some(Owed::Credit) => {
                self.credit_asked = false;
                op::CREDIT_UPDATE
            }
            Some(Owed::Data) => {
                bytes = self.send(buffer)?;
                if bytes == 0 {
                    return Ok(None);
                }
                op::RW
            }
        };
        let (buf_alloc, fwd_cnt) = self.credit.tell();
        header.op = op.into();
        header.len = (bytes as u32).into();
        (header.buf_alloc, header.fwd_cnt) = (buf_alloc.into(), fwd_cnt.into());
        buffer.write(header.as_bytes())?;
        Ok(Some(HEADER_BYTES.saturating_add(bytes)))
    }

    /// Moves what the host wrote to the place behind the header; says how much that was.
    fn send(&mut self, buffer: &mut Buffers) -> Result<usize, Fault> {
        let limit = self.credit.may_send().min(PACKET_BYTES_MAX);
        buffer.write(Header::default().as_bytes())?;
        let read = buffer.read_from(self.stream.as_fd(), limit as usize);
        buffer.rewind();
        match read {
            Ok(bytes @ 1..) => {
                self.credit.send(bytes as u32);
                return Ok(bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            // The end, or a host that closed without reading all it was sent.
            Ok(_) | Err(_) => self.host |= Shutdown::SEND,
        }
        Ok(0)
    }
}
