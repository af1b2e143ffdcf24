//! Bytes that one call read from a stream beyond what was asked for: a call for many small frames.

/// Room for some twenty packets of Ethernet; frames larger than [`Ahead::ALONE_BYTES`] pass it by.
const BYTES: usize = 32 << 10;

/// A buffer that is filled behind and emptied in front.
pub struct Ahead {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Ahead {
    /// Bytes of a frame from which on it costs less to read the next one by itself, straight to
    /// where it belongs, than to copy it.
    pub const ALONE_BYTES: usize = 4096;

    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Forgets the first `bytes`.
    pub fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.end);
    }

    /// Where more can be put, for [`Ahead::came`] to say how many did.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put into the room.
    pub fn came(&mut self, bytes: usize) {
        self.end = self.end.saturating_add(bytes).min(BYTES);
    }
}
