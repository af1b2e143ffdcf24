//! What the user of a terminal types: keys for the program, and keys for `mvm`.
//!
//! The one thing to know: keys that may become those that leave the program are held back until
//! another key says that they do not, as Docker does.

use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::interrupts::Interrupts;

/// Keys of one sequence; more than anybody types on purpose.
const KEYS_MAX: usize = 16;

/// The keys that leave a program, one behind the other. None of them leave none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys = text.split(',').map(key).collect::<Result<Vec<_>>>()?;
        ensure!(keys.len() <= KEYS_MAX, "must be at most {KEYS_MAX} keys");
        Ok(Self(keys))
    }
}

/// What a terminal sends for a key.
fn key(name: &str) -> Result<u8> {
    let byte = match name.as_bytes() {
        [byte @ b' '..=b'~'] => Some(*byte),
        // The control characters of ASCII: the letter without its upper bits.
        [
            b'c',
            b't',
            b'r',
            b'l',
            b'-',
            letter @ (b'a'..=b'z' | b'@' | b'['..=b'_'),
        ] => Some(letter & 0x1f),
        _ => None,
    };
    match byte {
        Some(byte) => Ok(byte),
        None => bail!(
            "must be characters or ctrl- and one of a-z@[\\]^_, with commas between, as in \
             \"ctrl-p,ctrl-q\"; {name:?} is neither"
        ),
    }
}

/// What typing has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Keys for the program, if any.
    Keys,
    /// Enough Ctrl-C that the user will not wait.
    GivesUp,
    /// The keys that leave the program.
    Leaves,
}

/// A terminal that somebody types on.
pub(super) struct Keyboard {
    keys: DetachKeys,
    /// Typed, and maybe the beginning of those.
    held: Vec<u8>,
    has_left: bool,
    interrupts: Interrupts,
}

impl Keyboard {
    pub(super) fn new(keys: DetachKeys) -> Self {
        Self {
            keys,
            held: Vec::new(),
            has_left: false,
            interrupts: Interrupts::default(),
        }
    }

    /// Bytes that may come besides those that are typed next.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes what was typed and leaves what is for the program. Behind the keys that leave it, that is
    /// nothing.
    pub(super) fn take(&mut self, typed: &mut Vec<u8>, now: Instant) -> Typed {
        let gives_up = self.interrupts.are_enough(typed, now);
        let was_left = self.has_left;
        if self.has_left || !self.keys.0.is_empty() {
            let all = std::mem::take(typed);
            for byte in all {
                self.press(byte, typed);
            }
        }
        match () {
            () if gives_up => Typed::GivesUp,
            () if self.has_left && !was_left => Typed::Leaves,
            () => Typed::Keys,
        }
    }

    fn press(&mut self, byte: u8, passed: &mut Vec<u8>) {
        if self.has_left {
            return;
        }
        self.held.push(byte);
        let keys = &self.keys.0;
        // What is held is always the longest end of what was typed that those keys begin with.
        let is_begin = |from: &usize| keys.starts_with(&self.held[*from..]);
        let begin = (0..self.held.len()).find(is_begin);
        passed.extend(self.held.drain(..begin.unwrap_or(self.held.len())));
        if self.held.len() == keys.len() {
            self.has_left = true;
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<u8>, String> {
        let keys = text.parse::<DetachKeys>();
        keys.map(|keys| keys.0).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_written_as_docker_has_them() {
        assert_eq!(keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert_eq!(
            keys("ctrl-@,ctrl-[,ctrl-_,a,Z,~").unwrap(),
            *b"\0\x1b\x1faZ~"
        );
        assert_eq!(keys("").unwrap(), b"");
        for bad in [
            "ctrl-", "ctrl-P", "ctrl-pq", "ab", ",", "a,", "é", "\u{1}", "^p",
        ] {
            let error = keys(bad).unwrap_err();
            assert!(error.starts_with("must be characters or ctrl-"), "{error}");
        }
        let many = ["a"; KEYS_MAX + 1].join(",");
        assert_eq!(keys(&many).unwrap_err(), "must be at most 16 keys");
    }

    /// What passes of each that is typed, and what it comes to at last.
    fn typed<const N: usize>(keys: &str, typed: [&[u8]; N]) -> ([Vec<u8>; N], Typed) {
        let mut keyboard = Keyboard::new(keys.parse().unwrap());
        let mut last = Typed::Keys;
        let passed = typed.map(|bytes| {
            let mut bytes = bytes.to_vec();
            last = keyboard.take(&mut bytes, Instant::now());
            bytes
        });
        (passed, last)
    }

    #[test]
    fn the_keys_leave_and_reach_nobody() {
        let (passed, last) = typed("ctrl-p,ctrl-q", [b"ab\x10", b"\x11cd"]);
        assert_eq!((passed, last), ([b"ab".to_vec(), vec![]], Typed::Leaves));
        let (passed, last) = typed("ctrl-p,ctrl-q", [b"a\x10\x11", b"more"]);
        assert_eq!((passed, last), ([b"a".to_vec(), vec![]], Typed::Keys));
    }

    #[test]
    fn a_beginning_that_was_none_is_passed_on() {
        let (passed, last) = typed("ctrl-p,ctrl-q", [b"\x10", b"\x10", b"x\x11"]);
        let expected = [vec![], vec![16], b"\x10x\x11".to_vec()];
        assert_eq!((passed, last), (expected, Typed::Keys));
        // Its second try begins within its first.
        let (passed, last) = typed("a,a,b", [b"aaab"]);
        assert_eq!((passed, last), ([b"a".to_vec()], Typed::Leaves));
    }

    #[test]
    fn without_keys_all_is_the_programs() {
        let (passed, last) = typed("", [b"\x10\x11"]);
        assert_eq!((passed, last), ([vec![16, 17]], Typed::Keys));
    }

    #[test]
    fn who_has_left_and_is_not_let_go_can_give_up() {
        let (passed, last) = typed("a", [b"a", b"\x03\x03\x03"]);
        assert_eq!((passed, last), ([vec![], vec![]], Typed::GivesUp));
    }
}
