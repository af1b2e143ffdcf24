//! Frames: a header of 12 bytes, little endian, and a payload of at most [`MAX_PAYLOAD`] bytes.
//!
//! ```text
//! session u32 | kind u16 | flags u16 | length u32 | payload
//! ```
//!
//! The one thing to know: [`FrameBuffer`] never grows, whatever length a header names. Leaves out
//! what a kind means: that is `message.rs`.

use std::io::{self, Read};

use anyhow::{Result, ensure};

use super::MAX_PAYLOAD;

/// Bytes of an encoded [`Header`].
pub const HEADER_SIZE: usize = 12;

/// Flag of a frame whose body goes on in the next frame of the same session and kind.
pub(super) const MORE: u16 = 1;

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The machine (0) or one execution.
    pub session: u32,
    /// What the payload is.
    pub kind: u16,
    /// Bit 0: the body goes on in another frame. The others are reserved and zero.
    pub flags: u16,
    /// Bytes of payload, at most [`MAX_PAYLOAD`].
    pub length: u32,
}

impl Header {
    /// The header as it is on the wire.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&self.session.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.kind.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads a header; its length and reserved flags are checked here, its kind is not.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self> {
        let [s0, s1, s2, s3, k0, k1, f0, f1, l0, l1, l2, l3] = *bytes;
        let header = Self {
            session: u32::from_le_bytes([s0, s1, s2, s3]),
            kind: u16::from_le_bytes([k0, k1]),
            flags: u16::from_le_bytes([f0, f1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
        };
        ensure!(
            header.length as usize <= MAX_PAYLOAD,
            "frame of kind {} has {} bytes, at most {MAX_PAYLOAD} are allowed",
            header.kind,
            header.length
        );
        ensure!(
            header.flags & !MORE == 0,
            "frame of kind {} has the reserved flags {:#x}",
            header.kind,
            header.flags
        );
        Ok(header)
    }
}

/// One whole frame, borrowed from the buffer that it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The frame's header; its length is that of the payload.
    pub header: Header,
    /// What the header announced.
    pub payload: &'a [u8],
}

/// Cuts a byte stream into frames, in a buffer of fixed size.
pub struct FrameBuffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameBuffer {
    /// An empty buffer; it has room for two of the largest frames, so that one read can bring the
    /// end of one and the begin of the next.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; 2 * (HEADER_SIZE + MAX_PAYLOAD)].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Reads once from `source` and returns how many bytes came: 0 is the stream's end.
    ///
    /// Frames must have been taken with [`Self::next_frame`] until there was none; otherwise the
    /// buffer may be full, which is an error of kind `OutOfMemory`.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.bytes.len() - self.end < HEADER_SIZE + MAX_PAYLOAD {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let count = source.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The next whole frame, or `None` when more bytes must come first. After an error the stream
    /// has lost its framing and is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let ready = &self.bytes[self.start..self.end];
        let Some((header, rest)) = ready.split_first_chunk::<HEADER_SIZE>() else {
            return Ok(None);
        };
        let header = Header::decode(header)?;
        let Some(payload) = rest.get(..header.length as usize) else {
            return Ok(None);
        };
        self.start += HEADER_SIZE + payload.len();
        Ok(Some(Frame { header, payload }))
    }

    /// Whether the bytes at hand end within a frame.
    pub fn is_partial(&self) -> bool {
        self.start != self.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_longer_than_the_limit_is_an_error() {
        let header = Header {
            session: 1,
            kind: 20,
            flags: 0,
            length: u32::MAX,
        };
        let mut buffer = FrameBuffer::new();
        buffer.fill(&mut &header.encode()[..]).unwrap();
        let error = buffer.next_frame().unwrap_err().to_string();
        assert_eq!(
            error,
            "frame of kind 20 has 4294967295 bytes, at most 65536 are allowed"
        );
    }

    #[test]
    fn a_full_buffer_refuses_to_grow() {
        let mut buffer = FrameBuffer::new();
        let size = buffer.bytes.len();
        let read = buffer.fill(&mut io::repeat(0)).unwrap();
        let error = buffer.fill(&mut io::repeat(0)).unwrap_err();
        assert_eq!(read, size);
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..8),
            step in 1usize..9000,
        ) {
            let mut wire = Vec::new();
            for (session, payload) in payloads.iter().enumerate() {
                let header = Header {
                    session: session as u32, kind: 20, flags: 0, length: payload.len() as u32,
                };
                wire.extend(header.encode());
                wire.extend(payload);
            }
            let mut buffer = FrameBuffer::new();
            let mut received = Vec::new();
            for mut piece in wire.chunks(step) {
                while buffer.fill(&mut piece).unwrap() > 0 {
                    while let Some(frame) = buffer.next_frame().unwrap() {
                        prop_assert_eq!(frame.header.session as usize, received.len());
                        received.push(frame.payload.to_vec());
                    }
                }
            }
            prop_assert_eq!(received, payloads);
            prop_assert!(!buffer.is_partial());
        }

        #[test]
        fn arbitrary_bytes_never_panic(wire in prop::collection::vec(any::<u8>(), 0..4000)) {
            let mut buffer = FrameBuffer::new();
            buffer.fill(&mut wire.as_slice()).unwrap();
            let mut taken = 0;
            while let Ok(Some(frame)) = buffer.next_frame() {
                taken += HEADER_SIZE + frame.payload.len();
            }
            prop_assert!(taken <= wire.len());
        }
    }
}
