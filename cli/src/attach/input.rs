//! The program's input.
//!
//! The one thing to know: a process in the background that reads its terminal is stopped (SIGTTIN),
//! and the machine with it. So a terminal is only read in the foreground.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use guest::protocol::{
    FIRST_SESSION, HEADER_SIZE, MAX_PAYLOAD, Message, Stream, WINDOW, data_header,
};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp};

use super::keys::{DetachKeys, Keyboard, Typed};

/// How often a process in the background looks whether it is still there.
pub(super) const FOREGROUND_CHECK: Duration = Duration::from_millis(500);

pub(super) struct Input {
    fd: OwnedFd,
    is_open: bool,
    is_terminal: bool,
    /// Where the program's terminal is this one.
    keyboard: Option<Keyboard>,
    /// Bytes that the guest has room for.
    credit: u32,
}

impl Input {
    /// `wanted`: whether the program gets input at all. `keys`: those that leave it, if it has a
    /// terminal.
    pub(super) fn new(fd: OwnedFd, wanted: bool, keys: Option<DetachKeys>) -> Self {
        let is_terminal = isatty(&fd);
        Self {
            fd,
            is_open: wanted,
            is_terminal,
            // Of other input each byte is like any other.
            keyboard: keys.filter(|_| is_terminal).map(Keyboard::new),
            credit: WINDOW,
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.fd
    }

    /// Whether the guest has room for more.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_open && self.room() > 0
    }

    /// Bytes to read at once: what is held back comes before them.
    fn room(&self) -> usize {
        let held = self.keyboard.as_ref().map_or(0, Keyboard::held);
        MAX_PAYLOAD.min(self.credit as usize).saturating_sub(held)
    }

    /// Whether it is a terminal that another process has the use of.
    pub(super) fn is_in_background(&self) -> bool {
        self.is_terminal && tcgetpgrp(&self.fd).is_ok_and(|foreground| foreground != getpgrp())
    }

    pub(super) fn add_credit(&mut self, bytes: u32) -> Result<()> {
        let credit = self.credit.saturating_add(bytes);
        ensure!(
            credit <= WINDOW,
            "credit for {bytes} bytes of Stdin that were not sent"
        );
        self.credit = credit;
        Ok(())
    }

    /// The program reads no more.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// Reads once and appends a message to `outbox`.
    pub(super) fn read(&mut self, outbox: &mut Vec<u8>) -> Typed {
        let start = outbox.len();
        let payload = start + HEADER_SIZE;
        outbox.resize(payload + self.room(), 0);
        let mut typed = Typed::Keys;
        match rustix::io::read(&self.fd, &mut outbox[payload..]) {
            Ok(count) if count > 0 => {
                outbox.truncate(payload + count);
                if let Some(keyboard) = &mut self.keyboard {
                    let mut keys = outbox.split_off(payload);
                    typed = keyboard.take(&mut keys, Instant::now());
                    outbox.append(&mut keys);
                }
                self.finish(start, outbox);
            }
            Err(Errno::INTR | Errno::AGAIN) => outbox.truncate(start),
            // The end; also of a terminal that was hung up, and of what cannot be read.
            _ => {
                outbox.truncate(start);
                self.is_open = false;
                let encoded = Message::Eof(Stream::Stdin).encode(FIRST_SESSION, outbox);
                debug_assert!(encoded.is_ok(), "{encoded:?}");
            }
        }
        typed
    }

    /// Puts the header before what is read. A message has at least a byte.
    fn finish(&mut self, start: usize, outbox: &mut Vec<u8>) {
        let count = outbox.len() - start - HEADER_SIZE;
        if count == 0 {
            return outbox.truncate(start);
        }
        let header = data_header(FIRST_SESSION, Stream::Stdin, count);
        outbox[start..start + HEADER_SIZE].copy_from_slice(&header);
        self.credit -= u32::try_from(count).unwrap_or(self.credit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn credit_that_was_not_used_is_an_error() {
        let mut input = Input::new(null(), true, None);
        let error = input.add_credit(1).unwrap_err().to_string();
        assert_eq!(error, "credit for 1 bytes of Stdin that were not sent");
    }

    #[test]
    fn the_end_is_told_once() {
        let mut input = Input::new(null(), true, None);
        let mut outbox = Vec::new();
        input.read(&mut outbox);
        assert_eq!(outbox.len(), HEADER_SIZE + 1);
        assert!(!input.is_wanted());
    }

    #[test]
    fn no_more_is_read_than_there_is_credit_for() {
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let mut input = Input::new(zero.into(), true, None);
        let mut outbox = Vec::new();
        while input.is_wanted() {
            input.read(&mut outbox);
        }
        let frames = WINDOW as usize / MAX_PAYLOAD;
        assert_eq!(outbox.len(), WINDOW as usize + frames * HEADER_SIZE);
    }
}
