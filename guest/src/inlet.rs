//! Bytes from the other side on their way to a descriptor that does not block, and the credit that
//! goes back for them.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::AsFd;

use rustix::io::{Errno, write};

/// What waits is bounded by the credit that its owner gives.
#[derive(Debug, Default)]
pub struct Inlet {
    /// Received and not yet taken by the descriptor.
    waiting: VecDeque<u8>,
    /// Passed on since the last credit.
    passed: u32,
}

impl Inlet {
    /// Takes bytes, and passes on at once what it can.
    pub fn take(&mut self, fd: impl AsFd, bytes: &[u8]) {
        // Mostly nothing waits and there is room: then they need not be copied first.
        let written = if self.waiting.is_empty() {
            write(fd, bytes).unwrap_or(0)
        } else {
            0
        };
        self.skip(written);
        self.push(&bytes[written..]);
    }

    /// Takes bytes that have to wait.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// Counts bytes as passed on that were not to be kept.
    pub fn skip(&mut self, bytes: usize) {
        self.passed += bytes as u32;
    }

    /// Passes on what the descriptor has room for.
    ///
    /// # Errors
    /// The reader has gone.
    pub fn flush(&mut self, fd: impl AsFd) -> Result<(), Errno> {
        while !self.waiting.is_empty() {
            match write(fd.as_fd(), self.waiting.as_slices().0) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.skip(count);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        // Most are idle most of the time, and there may be many.
        self.clear();
        Ok(())
    }

    /// The credit to give, once it is `step` or more.
    pub fn credit(&mut self, step: u32) -> Option<u32> {
        (self.passed >= step).then(|| mem::take(&mut self.passed))
    }

    /// Bytes that no credit was given for yet.
    pub fn under_way(&self) -> usize {
        self.waiting.len() + self.passed as usize
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting = VecDeque::new();
    }
}
