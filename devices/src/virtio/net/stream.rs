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
use super::header::{ETHERNET_BYTES, FRAME_BYTES_MAX, HEADER_BYTES, Header};
use super::posted::Posted;
use crate::virtio::Buffers;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Bytes that are thrown away or made up in one call.
const SCRATCH_BYTES: usize = 4096;

/// Lengths and pieces of frames that are thrown away for one event, before others get their turn.
const STEPS_MAX: u32 = 64;

/// A stream of frames, and how far both directions are.
pub struct Stream {
    socket: UnixStream,
    sending: Sending,
    receiving: Receiving,
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
    length: [u8; LENGTH_BYTES],
    /// Bytes of `length` that have come.
    length_done: usize,
    /// Bytes of the frame that have not come.
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
        })
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
        self.length_done = 0;
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

    fn next_bytes(&mut self, limit: usize) -> io::Result<Option<usize>> {
        let receiving = &mut self.receiving;
        for _ in 0..STEPS_MAX {
            if receiving.has_begun {
                return Ok(None);
            }
            if receiving.left > 0 {
                return Ok(Some(receiving.left));
            }
            let mut scratch = [0; SCRATCH_BYTES];
            let to = if receiving.skip > 0 {
                scratch.get_mut(..receiving.skip.min(SCRATCH_BYTES))
            } else {
                receiving.length.get_mut(receiving.length_done..)
            };
            let to = to.unwrap_or_default();
            // A whole length may have come with the frame before.
            if !to.is_empty() {
                let bytes = read(&self.socket, &mut *to)?;
                if bytes == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if receiving.skip > 0 {
                    receiving.skip = receiving.skip.saturating_sub(bytes);
                    continue;
                }
                receiving.length_done = receiving.length_done.saturating_add(bytes);
            }
            if receiving.length_done == LENGTH_BYTES {
                let bytes = u32::from_be_bytes(receiving.length) as usize;
                receiving.begin(bytes, limit)?;
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn receive(&mut self, posted: &mut Posted) -> io::Result<Option<Header>> {
        let receiving = &mut self.receiving;
        if !receiving.has_begun {
            posted.advance(HEADER_BYTES);
            receiving.has_begun = true;
        }
        // Each round moves at least a byte.
        while receiving.left > 0 {
            // The next frame's length comes along, which saves a call for each frame.
            let mut vectors = posted.vectors(receiving.left);
            let tail = match vectors.bytes() {
                room if room < receiving.left => &mut [],
                _ => &mut receiving.length[..],
            };
            let bytes = vectors.readv_with(self.socket.as_fd(), tail)?;
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let of_frame = bytes.min(receiving.left);
            receiving.left = receiving.left.saturating_sub(of_frame);
            receiving.length_done = bytes.saturating_sub(of_frame);
            posted.advance(of_frame);
        }
        receiving.has_begun = false;
        Ok(Some(Header::default()))
    }
}
