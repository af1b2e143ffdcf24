//! Bytes on their way to the other side: the agent's to its host, and a carrier's to the guest.
//!
//! The one thing to know: [`Outbox::has_room`] is what bounds it; a stream is read only then.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::protocol::{HEADER_SIZE, MAX_PAYLOAD, Message, Stream, data_header};

/// Bytes that may wait before streams are no longer read: enough to keep the port busy while the
/// next pipe is read, little enough that a stream's close is not long behind.
const LIMIT: usize = 2 * MAX_PAYLOAD;

/// Encoded frames that wait.
#[derive(Default)]
pub struct Outbox {
    /// Room that has been used before; `start..end` of it waits. The rest is not cleared, so that a
    /// read into it costs no more than the read.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// A message's encoding, before it is copied.
    encoded: Vec<u8>,
}

impl Outbox {
    /// Whether a frame of stream data may be added. Other messages, which answer the host's own,
    /// are always taken.
    pub fn has_room(&self) -> bool {
        self.end - self.start < LIMIT
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Adds a message; only for those whose encoding cannot fail: of a few bytes, or data of at most
    /// [`MAX_PAYLOAD`].
    pub fn push(&mut self, session: u32, message: &Message<'_>) {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        let result = message.encode(session, &mut encoded);
        debug_assert!(result.is_ok(), "{result:?}");
        self.room(encoded.len()).copy_from_slice(&encoded);
        self.end += encoded.len();
        self.encoded = encoded;
    }

    /// Reads once from `source`, up to `limit` bytes (1 to [`MAX_PAYLOAD`]), straight into a data
    /// frame. Returns how many came: 0 is the end.
    ///
    /// # Errors
    /// Nothing can be read now, or ever.
    pub fn read_from(
        &mut self,
        source: impl AsFd,
        session: u32,
        stream: Stream,
        limit: usize,
    ) -> Result<usize, Errno> {
        let (header, payload) = self.room(HEADER_SIZE + limit).split_at_mut(HEADER_SIZE);
        let count = rustix::io::read(source, payload)?;
        if count > 0 {
            header.copy_from_slice(&data_header(session, stream, count));
            self.end += HEADER_SIZE + count;
        }
        Ok(count)
    }

    /// The `length` bytes behind those that wait.
    fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.end + length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.end..end]
    }

    /// Writes until all is sent or `channel` takes no more.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn flush(&mut self, channel: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            match rustix::io::write(&channel, &self.bytes[self.start..self.end]) {
                Ok(count) => self.start += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        } else if self.start >= LIMIT {
            // So that it stays bounded under a host that never takes everything.
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        Ok(())
    }
}
