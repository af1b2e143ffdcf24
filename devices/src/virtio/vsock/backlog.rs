//! What the guest sent and the host's stream has not taken yet.
//!
//! Empty as long as the host keeps up, and then without memory: data goes from guest pages to the
//! stream. What a slow host leaves lies here, at most as much as the guest has credit for.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::super::{Buffers, Fault};

/// Bytes copied from guest memory at a time, on the stack.
const PIECE_BYTES: usize = 4096;

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub struct Backlog(VecDeque<u8>);

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A window is a 32 bit number, and no more than one lies here.
    pub fn bytes(&self) -> u32 {
        self.0.len() as u32
    }

    /// Appends what is left of `payload`. At most `window_bytes` lie here, the caller sees to
    /// that: memory for all of them is reserved at once, and the kernel gives it page by page.
    pub fn fill(&mut self, payload: &mut Buffers, window_bytes: u32) -> Result<(), Fault> {
        if self.0.capacity() == 0 {
            self.0.reserve_exact(window_bytes as usize);
        }
        let mut piece = [0; PIECE_BYTES];
        loop {
            let bytes = payload.read(&mut piece)?;
            self.0.extend(piece.get(..bytes).unwrap_or_default());
            if bytes < PIECE_BYTES {
                return Ok(());
            }
        }
    }

    /// Writes to `stream` until it is full or nothing is left.
    ///
    /// # Errors
    /// As `write(2)`, but not that the stream is full.
    pub fn flush(&mut self, mut stream: impl Write) -> io::Result<()> {
        while !self.is_empty() {
            let (front, _) = self.0.as_slices();
            match stream.write(front) {
                Ok(bytes) => drop(self.0.drain(..bytes.min(front.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }

    /// Throws away what lies here, and its memory.
    pub fn clear(&mut self) {
        self.0 = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, then no more for once.
    struct Slow {
        taken: Vec<u8>,
        takes: usize,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let bytes = &bytes[..bytes.len().min(7)];
            self.takes -= 1;
            match self.takes % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => {
                    self.taken.extend(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_stream_gets_all_in_order() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut backlog = Backlog(bytes.iter().copied().collect());
        let mut slow = Slow {
            taken: Vec::new(),
            takes: 1000,
        };
        while !backlog.is_empty() {
            backlog.flush(&mut slow).unwrap();
            assert_eq!(slow.taken.len() + backlog.bytes() as usize, bytes.len());
        }
        assert_eq!(slow.taken, bytes);
        assert_eq!(backlog.0.capacity(), 0);
    }
}
