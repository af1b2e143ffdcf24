//! The buffers that the driver has posted for frames, from the queue until a frame has filled them.
//!
//! A frame goes straight to guest pages, and how many buffers it takes is known only then, so as
//! many as the largest frame may need are held here.

use std::collections::VecDeque;
use std::io;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::header::{HEADER_BYTES, Header, NUM_BUFFERS};
use crate::Memory;
use crate::virtio::iovec::Vectors;
use crate::virtio::{Buffers, Chain, Fault, Queue};

/// Pieces of guest memory that one frame is read into. Linux posts at most 43 for a frame.
const PIECES_MAX: usize = 256;

/// Posted buffers, in the driver's order.
pub struct Posted {
    memory: Memory,
    chains: VecDeque<Chain>,
    /// Chains that are not in use, kept for their allocations.
    spare: Vec<Chain>,
    /// Whether a frame may take several (`VIRTIO_NET_F_MRG_RXBUF`).
    mergeable: bool,
}

impl Posted {
    pub fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            chains: VecDeque::new(),
            spare: Vec::new(),
            mergeable: false,
        }
    }

    /// A driver starts.
    pub fn start(&mut self, mergeable: bool) {
        self.mergeable = mergeable;
    }

    /// The driver has taken its buffers back.
    pub fn stop(&mut self) {
        self.spare.extend(self.chains.drain(..));
    }

    /// Takes buffers from `queue` until there is room for a header and `frame_bytes` behind it;
    /// false when the queue has too few.
    ///
    /// # Errors
    /// The driver posted what holds no frame (§5.1.6.3.1), however many of it.
    pub fn make_room(&mut self, queue: &mut Queue, frame_bytes: usize) -> Result<bool, Fault> {
        let wanted = frame_bytes.saturating_add(HEADER_BYTES);
        let (mut room, mut pieces) = (0usize, 0usize);
        for chain in self.in_reach() {
            room = room.saturating_add(chain.writable.remaining_bytes());
            pieces = pieces.saturating_add(chain.writable.pieces());
        }
        while room < wanted {
            if pieces > PIECES_MAX || !self.mergeable && !self.chains.is_empty() {
                return Err(Fault::Guest(
                    "its receive buffers are too small for a frame",
                ));
            }
            let mut chain = self.spare.pop().unwrap_or_else(|| queue.chain());
            if !queue.pop(&mut chain)? {
                self.spare.push(chain);
                return Ok(false);
            }
            let bytes = chain.writable.remaining_bytes();
            room = room.saturating_add(bytes);
            pieces = pieces.saturating_add(chain.writable.pieces());
            self.chains.push_back(chain);
            if bytes < HEADER_BYTES {
                return Err(Fault::Guest("a receive buffer is smaller than a header"));
            }
        }
        Ok(true)
    }

    /// Vectors over what is left, at most `limit_bytes` of it.
    pub fn vectors(&self, limit_bytes: usize) -> Vectors<'_> {
        let mut vectors = Vectors::new(&self.memory);
        let mut left = limit_bytes;
        for chain in self.in_reach() {
            if left == 0 || !chain.writable.add_to(&mut vectors, left) {
                break;
            }
            left = left.saturating_sub(chain.writable.remaining_bytes());
        }
        vectors
    }

    /// Copies `bytes` to what is left, as far as there is room; returns how many had it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0usize;
        for chain in &mut self.chains {
            let rest = bytes.get(done..).unwrap_or_default();
            let written = chain.writable.write(rest);
            // What was checked when it was posted.
            let written = written.map_err(|_| io::Error::other("guest memory is gone"))?;
            done = done.saturating_add(written);
        }
        Ok(done)
    }

    /// Goes on by `bytes`.
    pub fn advance(&mut self, bytes: usize) {
        let mut left = bytes;
        for chain in &mut self.chains {
            let step = chain.writable.remaining_bytes().min(left);
            chain.writable.advance(step);
            left = left.saturating_sub(step);
        }
    }

    /// Forgets what has been written of a frame.
    pub fn rewind(&mut self) {
        for chain in &mut self.chains {
            chain.writable.rewind();
        }
    }

    /// Gives the driver the buffers of a frame that is complete, and returns its bytes. `header` is
    /// the frame's, where the host's kernel has not written it.
    ///
    /// # Errors
    /// Guest memory or the used ring is gone.
    pub fn complete(&mut self, queue: &mut Queue, header: Option<Header>) -> Result<usize, Fault> {
        let used = |chain: &&Chain| chain.writable.consumed_bytes() > 0;
        let count = self.chains.iter().take_while(used).count();
        let mut bytes = 0usize;
        for nth in 0..count {
            let Some(mut chain) = self.chains.pop_front() else {
                break;
            };
            let written = chain.writable.consumed_bytes();
            bytes = bytes.saturating_add(written);
            if nth == 0 {
                write_header(&mut chain.writable, header, count)?;
            }
            queue.push(&chain, written)?;
            self.spare.push(chain);
        }
        Ok(bytes.saturating_sub(HEADER_BYTES))
    }

    /// The chains that one frame may use.
    fn in_reach(&self) -> impl Iterator<Item = &Chain> {
        let most = if self.mergeable { usize::MAX } else { 1 };
        self.chains.iter().take(most)
    }
}

/// Writes what the frame's first buffer begins with: the header, or in one that is there already
/// the number of buffers that the frame takes.
fn write_header(buffers: &mut Buffers, header: Option<Header>, count: usize) -> Result<(), Fault> {
    let num_buffers = U16::new(u16::try_from(count).unwrap_or(u16::MAX));
    buffers.rewind();
    if let Some(header) = header {
        let header = Header {
            num_buffers,
            ..header
        };
        buffers.write(header.as_bytes())?;
    } else {
        buffers.advance(NUM_BUFFERS);
        buffers.write(num_buffers.as_bytes())?;
    }
    Ok(())
}
