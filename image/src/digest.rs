//! Digests: `sha256:` and 64 digits, the name of a blob by its content.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The digest of some bytes by SHA-256, the one algorithm that images are made with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    const PREFIX: &str = "sha256:";

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(Sha256::new_with_prefix(bytes))
    }

    /// Its 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }

    fn finished(hash: Sha256) -> Self {
        let digits = hash
            .finalize()
            .iter()
            .fold(String::new(), |mut text, byte| {
                for half in [byte >> 4, byte & 15] {
                    text.push(char::from_digit(half.into(), 16).unwrap_or_default());
                }
                text
            });
        Self(format!("{}{digits}", Self::PREFIX))
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix(Self::PREFIX).unwrap_or_default();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(is_hex) {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "a digest is \"sha256:\" and 64 hexadecimal digits, not {text:?}"
            ))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads what another reader reads, and knows its digest in the end.
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    /// Reads from `inner`.
    pub fn new(inner: R) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    /// Reads the rest, and tells the digest of all.
    pub fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::finished(self.hash))
    }

    /// Reads the rest, and compares.
    pub fn expect(self, expected: &Digest) -> Result<()> {
        let is = self.finish()?;
        ensure!(is == *expected, "its digest is {is} and not {expected}");
        Ok(())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(to)?;
        self.hash.update(&to[..bytes]);
        Ok(bytes)
    }
}

/// Writes to another writer, and knows the digest and the number of what was written.
pub struct Written<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Written<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// The writer, and the digest and number of the bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::finished(self.hash), self.bytes)
    }
}

impl<W: Write> Write for Written<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let bytes = self.inner.write(from)?;
        self.hash.update(&from[..bytes]);
        self.bytes += bytes as u64;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_of_all_bytes_read_or_not() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        let mut hashing = Hashing::new(&b"abc"[..]);
        hashing.read_exact(&mut [0]).unwrap();
        assert_eq!(hashing.finish().unwrap(), Digest::of(b"abc"));
        let error = Hashing::new(&b"a"[..])
            .expect(&Digest::of(b"b"))
            .unwrap_err();
        assert!(error.to_string().starts_with("its digest is sha256:ca978"));
    }

    #[test]
    fn a_digest_is_of_what_was_written() {
        let mut written = Written::new(Vec::new());
        written.write_all(b"a").unwrap();
        written.write_all(b"bc").unwrap();
        let expected = (b"abc".to_vec(), Digest::of(b"abc"), 3);
        assert_eq!(written.finish(), expected);
    }

    #[test]
    fn what_could_be_a_path_is_no_digest() {
        assert!(EMPTY.parse::<Digest>().is_ok());
        for text in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &EMPTY[..70],
            &EMPTY.to_uppercase(),
            &EMPTY.replace("e3b0", "../a"),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
