//! What a program says of itself (`sd_notify(3)`), out of the bytes of a guest.
//!
//! The one thing to know: the guest is hostile. What is not known is ignored, as systemd does; what
//! is shown has no character that moves a cursor, and an end.

use guest::notify::{END, MAX};

/// Characters of a status line: one of a terminal, and more.
const STATUS_CHARS: usize = 256;

/// One word.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It serves.
    Ready,
    /// How it does, in a line.
    Status(String),
    /// It has not got stuck.
    Alive,
    /// It has, and knows it.
    Stuck,
}

/// Bytes that have come, until they are words.
#[derive(Default)]
pub struct Words {
    waiting: Vec<u8>,
    /// Whether what comes belongs to something that is too long.
    is_skipping: bool,
}

impl Words {
    /// Takes bytes and returns the words that they end.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Word> {
        let mut words = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == END) {
            let (piece, is_whole) = match piece.split_last() {
                Some((&END, piece)) => (piece, true),
                _ => (piece, false),
            };
            if self.waiting.len() + piece.len() > MAX {
                self.is_skipping = true;
                self.waiting.clear();
            }
            if !self.is_skipping {
                self.waiting.extend_from_slice(piece);
            }
            if is_whole {
                words.extend(self.waiting.split(|byte| *byte == b'\n').filter_map(word));
                self.waiting.clear();
                self.is_skipping = false;
            }
        }
        words
    }
}

fn word(line: &[u8]) -> Option<Word> {
    match line {
        b"READY=1" => Some(Word::Ready),
        b"WATCHDOG=1" => Some(Word::Alive),
        b"WATCHDOG=trigger" => Some(Word::Stuck),
        _ => {
            let text = std::str::from_utf8(line.strip_prefix(b"STATUS=")?).ok()?;
            let plain = |c: char| if c.is_control() { ' ' } else { c };
            Some(Word::Status(
                text.chars().take(STATUS_CHARS).map(plain).collect(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_pieces_and_many_at_once() {
        let mut words = Words::default();
        assert_eq!(words.take(b"\0READ"), []);
        assert_eq!(words.take(b"Y=1\nSTATUS=up"), []);
        let heard = words.take(b"\nMAINPID=1\0WATCHDOG=1\0WATCHDOG=trigger\0");
        let status = Word::Status("up".into());
        assert_eq!(heard, [Word::Ready, status, Word::Alive, Word::Stuck]);
    }

    #[test]
    fn what_is_unknown_or_not_text_is_ignored() {
        let mut words = Words::default();
        let unknown = b"READY=0\nready=1\nREADY=1 \nSTATUS\nSTATUS=\xff\nFDSTORE=1\n\n=\0";
        assert_eq!(words.take(unknown), []);
    }

    #[test]
    fn a_status_has_an_end_and_moves_no_cursor() {
        let mut words = Words::default();
        let long = format!("STATUS=\x1b[2J\r{}\0", "é".repeat(1000));
        let Some(Word::Status(text)) = words.take(long.as_bytes()).pop() else {
            panic!("no status");
        };
        assert_eq!(text.chars().count(), STATUS_CHARS);
        assert!(text.starts_with(" [2J é"), "{text}");
    }

    #[test]
    fn what_is_too_long_is_skipped_and_never_kept() {
        let mut words = Words::default();
        for _ in 0..1000 {
            assert_eq!(words.take(&[b'x'; MAX]), []);
            assert!(words.waiting.len() <= MAX);
        }
        assert_eq!(words.take(b"\nREADY=1\0READY=1\0"), [Word::Ready]);
    }
}
