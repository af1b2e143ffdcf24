//! The program's input.
//!
//! The one thing to know: a process in the background that reads its terminal is stopped (SIGTTIN),
//! and the machine with it. So a terminal is only read in the foreground.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use guest::protocol::{
    FIRST_SESSION, HEADER_SIZE, MAX_PAYLOAD, Message, Stream, WINDOW, data_header,
};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp};

/// How often a process in the background looks whether it is still there.
pub(super) const FOREGROUND_CHECK: Duration = Duration::from_millis(500);

pub(super) struct Input {
    fd: OwnedFd,
    is_open: bool,
    is_terminal: bool,
    /// Bytes that the guest has room for.
    credit: u32,
}

impl Input {
    /// `wanted`: whether the program gets input at all.
    pub(super) fn new(fd: OwnedFd, wanted: bool) -> Self {
        let is_terminal = isatty(&fd);
        Self {
            fd,
            is_open: wanted,
            is_terminal,
            credit: WINDOW,
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the guest has room for more.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_open && self.credit > 0
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

    /// Reads once and appends a message to `outbox`. Returns the bytes read.
    pub(super) fn read<'a>(&mut self, outbox: &'a mut Vec<u8>) -> &'a [u8] {
        let start = outbox.len();
        let limit = MAX_PAYLOAD.min(self.credit as usize);
        outbox.resize(start + HEADER_SIZE + limit, 0);
        match rustix::io::read(&self.fd, &mut outbox[start + HEADER_SIZE..]) {
            Ok(count) if count > 0 => {
                let header = data_header(FIRST_SESSION, Stream::Stdin, count);
                outbox[start..start + HEADER_SIZE].copy_from_slice(&header);
                outbox.truncate(start + HEADER_SIZE + count);
                self.credit -= u32::try_from(count).unwrap_or(self.credit);
            }
            Err(Errno::INTR | Errno::AGAIN) => outbox.truncate(start),
            // The end; also of a terminal that was hung up, and of what cannot be read.
            _ => {
                outbox.truncate(start);
                self.is_open = false;
                let encoded = Message::Eof(Stream::Stdin).encode(FIRST_SESSION, outbox);
                debug_assert!(encoded.is_ok(), "{encoded:?}");
                return &[];
            }
        }
        outbox.get(start + HEADER_SIZE..).unwrap_or_default()
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
        let mut input = Input::new(null(), true);
        let error = input.add_credit(1).unwrap_err().to_string();
        assert_eq!(error, "credit for 1 bytes of Stdin that were not sent");
    }

    #[test]
    fn the_end_is_told_once() {
        let mut input = Input::new(null(), true);
        let mut outbox = Vec::new();
        input.read(&mut outbox);
        assert_eq!(outbox.len(), HEADER_SIZE + 1);
        assert!(!input.is_wanted());
    }

    #[test]
    fn no_more_is_read_than_there_is_credit_for() {
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let mut input = Input::new(zero.into(), true);
        let mut outbox = Vec::new();
        while input.is_wanted() {
            input.read(&mut outbox);
        }
        let frames = WINDOW as usize / MAX_PAYLOAD;
        assert_eq!(outbox.len(), WINDOW as usize + frames * HEADER_SIZE);
    }
}
