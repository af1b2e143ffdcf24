//! The host's side of a network card as a stream socket: each frame behind its length, four bytes
//! in network order, as passt and QEMU's `-netdev stream` have it.
//!
//! The peer parses what a hostile guest sends, so it is not trusted either: a length that no frame
//! has ends the connection. There are no offloads: the protocol has no place for a header.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::io::{read, write};

use super::Backend;
use super::ahead::Ahead;
use super::header::{ETHERNET_BYTES, FRAME_BYTES_MAX, HEADER_BYTES, Header};
use super::posted::Posted;
use crate::virtio::Buffers;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Zeros that are made up in one call.
const SCRATCH_BYTES: usize = 4096;

/// A stream of frames, and how far both directions are.
pub struct Stream {
    socket: UnixStream,
    sending: Sending,
    receiving: Receiving,
    /// What follows of that frame, and what follows it.
    ahead: Ahead,
    /// The last call got less than it had room for: the next one would get nothing.
    is_drained: bool,
}

/// The frame that is being sent.
#[derive(Debug, Default)]
struct Sending {
    length: [u8; LENGTH_BYTES],
    /// Bytes of `length` and of the frame that the socket has not taken.
    length_left: usize,
    frame_left: usize,
    /// The driver was reset meanwhile: zeros stand for the rest.
    is_abandoned: bool,
}

/// The frame that is being received.
#[derive(Debug, Default)]
struct Receiving {
    /// Bytes of the frame that the driver does not have yet.
    left: usize,
    /// Bytes to throw away first.
    skip: usize,
    /// Bytes of the frame are in the driver's buffers.
    has_begun: bool,
}

impl Stream {
    /// A stream over a connected socket.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            sending: Sending::default(),
            receiving: Receiving::default(),
            ahead: Ahead::new(),
            is_drained: false,
        })
    }

    /// Fails where the socket need not be asked; once, since it tells by itself of what comes.
    fn ensure_filled(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_drained) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// Reads what there is, as far as there is room ahead.
    fn read_ahead(&mut self) -> io::Result<()> {
        self.ensure_filled()?;
        let room = self.ahead.room();
        let wanted = room.len();
        let bytes = some(read(&self.socket, room)?)?;
        self.is_drained = bytes < wanted;
        self.ahead.came(bytes);
        Ok(())
    }

    /// The length of the next frame, if it is here, behind what is to be thrown away.
    fn take_length(&mut self) -> Option<usize> {
        let skipped = self.receiving.skip.min(self.ahead.bytes().len());
        self.ahead.consume(skipped);
        self.receiving.skip = self.receiving.skip.saturating_sub(skipped);
        if self.receiving.skip > 0 {
            return None;
        }
        let length = u32::from_be_bytes(*self.ahead.bytes().first_chunk()?);
        self.ahead.consume(LENGTH_BYTES);
        Some(length as usize)
    }

    /// Reads more of the frame, straight to guest pages. What follows comes along, which saves a call
    /// for each small frame; of large ones their length alone.
    fn read_frame(&mut self, posted: &mut Posted) -> io::Result<usize> {
        self.ensure_filled()?;
        let left = self.receiving.left;
        let mut vectors = posted.vectors(left);
        let room: &mut [u8] = match self.ahead.room() {
            _ if vectors.bytes() < left => &mut [],
            room if left > Ahead::ALONE_BYTES => room.get_mut(..LENGTH_BYTES).unwrap_or_default(),
            room => room,
        };
        let wanted = vectors.bytes().saturating_add(room.len());
        let bytes = some(vectors.readv_with(self.socket.as_fd(), room)?)?;
        self.is_drained = bytes < wanted;
        let of_frame = bytes.min(left);
        self.ahead.came(bytes.saturating_sub(of_frame));
        posted.advance(of_frame);
        Ok(of_frame)
    }

    /// Sends the rest of a frame whose driver has gone.
    fn finish_abandoned(&mut self) -> io::Result<()> {
        let zeros = [0; SCRATCH_BYTES];
        while self.sending.length_left > 0 || self.sending.frame_left > 0 {
            let bytes = match self.sending.length_left {
                0 => zeros.get(..self.sending.frame_left).unwrap_or(&zeros),
                _ => self.sending.head(),
            };
            let sent = write(&self.socket, bytes)?;
            self.sending.took(sent);
        }
        self.sending.is_abandoned = false;
        Ok(())
    }
}

impl Sending {
    /// What is left of the length.
    fn head(&self) -> &[u8] {
        let done = LENGTH_BYTES.saturating_sub(self.length_left);
        self.length.get(done..).unwrap_or_default()
    }

    fn begin(&mut self, bytes: usize) {
        // At most `FRAME_BYTES_MAX`.
        self.length = u32::try_from(bytes).unwrap_or(0).to_be_bytes();
        self.length_left = LENGTH_BYTES;
        self.frame_left = bytes;
    }

    /// The socket took `bytes` more. Returns how many of them are the frame's.
    fn took(&mut self, bytes: usize) -> usize {
        let of_length = bytes.min(self.length_left);
        let of_frame = bytes.saturating_sub(of_length);
        self.length_left = self.length_left.saturating_sub(of_length);
        self.frame_left = self.frame_left.saturating_sub(of_frame);
        of_frame
    }
}

impl Receiving {
    /// A length has come. Frames that the link cannot carry are thrown away.
    fn begin(&mut self, bytes: usize, limit: usize) -> io::Result<()> {
        if bytes > FRAME_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it announced a frame of {bytes} bytes"),
            ));
        }
        if (ETHERNET_BYTES..=limit).contains(&bytes) {
            self.left = bytes;
        } else {
            self.skip = bytes;
        }
        Ok(())
    }
}

impl Backend for Stream {
    fn features(&self) -> u64 {
        0
    }

    fn start(&mut self, _features: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn stop(&mut self) {
        if self.sending.length_left == LENGTH_BYTES {
            // Nothing of it was sent.
            self.sending = Sending::default();
        }
        self.sending.is_abandoned = self.sending.length_left > 0 || self.sending.frame_left > 0;
        if self.receiving.left > 0 {
            self.receiving.skip = std::mem::take(&mut self.receiving.left);
        }
        self.receiving.has_begun = false;
    }

    fn close(&mut self) {
        // It may be closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&mut self, _header: &Header, frame: &mut Buffers) -> io::Result<()> {
        if self.sending.is_abandoned {
            self.finish_abandoned()?;
        }
        if self.sending.length_left == 0 && self.sending.frame_left == 0 {
            self.sending.begin(frame.remaining_bytes());
        }
        // Each round moves at least a byte.
        while self.sending.length_left > 0 || self.sending.frame_left > 0 {
            let mut vectors = frame.vectors(self.sending.frame_left);
            let sent = vectors.writev_with(self.socket.as_fd(), self.sending.head())?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            frame.advance(self.sending.took(sent));
        }
        Ok(())
    }

    fn has_ahead(&self) -> bool {
        !self.ahead.bytes().is_empty()
    }

    fn next_bytes(&mut self, limit: usize) -> io::Result<Option<usize>> {
        if self.receiving.has_begun {
            return Ok(None);
        }
        let mut may_read = true;
        // Each round uses up some of what was read, which one call does.
        while self.receiving.left == 0 {
            match self.take_length() {
                Some(bytes) => self.receiving.begin(bytes, limit)?,
                None if may_read => {
                    self.read_ahead()?;
                    may_read = false;
                }
                None => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
        Ok(Some(self.receiving.left))
    }

    fn receive(&mut self, posted: &mut Posted) -> io::Result<Option<Header>> {
        if !self.receiving.has_begun {
            posted.advance(HEADER_BYTES);
            self.receiving.has_begun = true;
        }
        // Each round moves at least a byte.
        while self.receiving.left > 0 {
            let moved = match self.ahead.bytes() {
                [] => self.read_frame(posted)?,
                ahead => {
                    let of_frame = ahead.get(..self.receiving.left).unwrap_or(ahead);
                    let bytes = some(posted.write(of_frame)?)?;
                    self.ahead.consume(bytes);
                    bytes
                }
            };
            self.receiving.left = self.receiving.left.saturating_sub(moved);
        }
        self.receiving.has_begun = false;
        Ok(Some(Header::default()))
    }
}

/// Not the end of the stream.
fn some(bytes: usize) -> io::Result<usize> {
    match bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}
