//! Extended headers of pax(1), and long names of GNU tar: what stands before the entry it is about.
//!
//! The one thing to know: their lengths are the sender's word, so they are read here, with a bound,
//! and not by the library. pax(1), "pax Extended Header"; `SCHILY.xattr.` is star's, as all have it.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use tar::PaxExtensions;

use crate::sparse::Keys;

/// Bytes of a name or a link's target: Linux takes no more (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;

/// Bytes of one extended header: two names, numbers, and attributes of which one has 64 KiB.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// `XATTR_SIZE_MAX`.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// `XATTR_NAME_MAX`.
const ATTRIBUTE_NAME_BYTES_MAX: usize = 255;

const ATTRIBUTE: &str = "SCHILY.xattr.";
const SPARSE: &str = "GNU.sparse.";

/// A mark of overlayfs, which the guest lays over the image: one of the image's would be taken for
/// the guest's own.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// What is said of an entry before it.
#[derive(Default)]
pub struct Extensions {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub size: Option<u64>,
    pub modified: Option<(i64, u32)>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Keys,
}

impl Extensions {
    /// Takes a header of pax(1).
    pub fn take(&mut self, header: &mut impl Read) -> Result<()> {
        let bytes = read_all(header, HEADER_BYTES_MAX).context("an extended header")?;
        for extension in PaxExtensions::new(&bytes) {
            let extension = extension.context("cannot read an extended header")?;
            // Values may be any bytes, keys are text.
            let key = extension.key().context("a key is no text")?;
            let value = extension.value_bytes();
            match key {
                "path" => self.path = Some(path(value)?),
                "linkpath" => self.link = Some(path(value)?),
                "uid" => self.uid = Some(number(key, value)?),
                "gid" => self.gid = Some(number(key, value)?),
                "size" => self.size = Some(number(key, value)?),
                "mtime" => self.modified = Some(time(value)?),
                _ => {
                    if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                        self.take_attribute(name.as_bytes(), value)?;
                    } else if let Some(key) = key.strip_prefix(SPARSE) {
                        self.sparse.take(key, value)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_attribute(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        ensure!(
            (1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len())
                && !name.contains(&0)
                && value.len() <= ATTRIBUTE_BYTES_MAX,
            "an extended attribute is larger than Linux has them"
        );
        if !name.starts_with(OVERLAY) {
            self.attributes.push((name.into(), value.into()));
        }
        Ok(())
    }
}

/// A name of GNU tar, which ends with a NUL.
pub fn long_name(entry: &mut impl Read) -> Result<Vec<u8>> {
    let mut name = read_all(entry, PATH_BYTES_MAX as u64).context("a name")?;
    if name.last() == Some(&0) {
        name.pop();
    }
    path(&name)
}

/// A name, as it is written.
pub fn path(value: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        value.len() < PATH_BYTES_MAX && !value.contains(&0),
        "a name is longer than {PATH_BYTES_MAX} bytes, or has a NUL in it"
    );
    Ok(value.into())
}

fn read_all(reader: &mut impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit, "has more than {limit} bytes");
    Ok(bytes)
}

/// A number in decimal digits.
pub fn number(key: &str, value: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok())
        .with_context(|| format!("{key} of an extended header is no number"))
}

/// Seconds, which may be negative and have a fraction: `-1.25` is 1.25 seconds before 1970.
fn time(value: &[u8]) -> Result<(i64, u32)> {
    let text = std::str::from_utf8(value).context("a time is no text")?;
    let wrong = || format!("{text:?} is no time");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok().with_context(wrong)?;
    ensure!(fraction.bytes().all(|byte| byte.is_ascii_digit()), wrong());
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    if whole.starts_with('-') && nanoseconds > 0 {
        let before = seconds.checked_sub(1).with_context(wrong)?;
        return Ok((before, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time(b"12").unwrap(), (12, 0));
        assert_eq!(time(b"1.5").unwrap(), (1, 500_000_000));
        assert_eq!(time(b"1.1234567899").unwrap(), (1, 123_456_789));
        assert_eq!(time(b"-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(time(b"-0.25").unwrap(), (-1, 750_000_000));
        for wrong in [&b""[..], b".5", b"1.x", b"a", b"99999999999999999999"] {
            assert!(time(wrong).is_err());
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let long = |bytes| long_name(&mut std::io::repeat(b'a').take(bytes));
        assert_eq!(long(4095).unwrap().len(), 4095);
        assert!(long(1 << 40).is_err());
        let mut extensions = Extensions::default();
        assert!(extensions.take(&mut std::io::repeat(b'1')).is_err());
    }
}
