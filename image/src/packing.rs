//! What archives and layers are packed with, and what they are when they are unpacked.
//!
//! The one thing to know: the bytes tell, never a name or a media type. Who unpacks takes a bounded
//! part of memory, whatever a stream asks for; how much comes of it is for the reader to bound.

use std::io::{self, Cursor, ErrorKind, Read};

use anyhow::{Result, bail};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

/// How each begins that is unpacked.
const MAGICS: [(&[u8], Packing); 4] = [
    (&[0x1f, 0x8b], Packing::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Packing::Zstd),
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"BZh", Packing::Bzip2),
];
/// What mvm does not unpack, and the program that does.
const OTHERS: [(&[u8], &str); 2] = [(b"\x04\x22\x4d\x18", "lz4"), (b"LZIP", "lzip")];
/// The frame that zstd's tools pass over; the lowest four bits of its first byte are anybody's.
const ZSTD_SKIPPED: &[u8] = &[0x2a, 0x4d, 0x18];
/// Bytes that tell what packed a file.
pub const MAGIC_BYTES: usize = 6;

/// What `xz -9` needs, twice over; `zstd` is bounded by its library to as much.
const XZ_MIB_MAX: u32 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    /// By this program.
    Other(&'static str),
}

impl Packing {
    fn of(beginning: &[u8]) -> Self {
        let begins = |magic: &[u8]| beginning.starts_with(magic);
        if let Some((_, packing)) = MAGICS.iter().find(|(magic, _)| begins(magic)) {
            return *packing;
        }
        if let [0x50..=0x5f, rest @ ..] = beginning
            && rest.starts_with(ZSTD_SKIPPED)
        {
            return Self::Zstd;
        }
        let other = OTHERS.iter().find(|(magic, _)| begins(magic));
        other.map_or(Self::None, |(_, program)| Self::Other(program))
    }
}

/// Whether a file that begins so is packed as a whole.
pub fn is_packed(beginning: &[u8]) -> bool {
    Packing::of(beginning) != Packing::None
}

/// What `packed` is when it is unpacked, whatever it is packed with.
///
/// # Errors
/// It cannot be read, or is packed as nothing here unpacks it.
pub fn unpacked<'a>(mut packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut beginning = Vec::new();
    packed
        .by_ref()
        .take(MAGIC_BYTES as u64)
        .read_to_end(&mut beginning)?;
    let packing = Packing::of(&beginning);
    let whole = Cursor::new(beginning).chain(packed);
    Ok(match packing {
        Packing::None => Box::new(whole),
        Packing::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Packing::Zstd => Box::new(zstd::Decoder::new(whole)?),
        Packing::Xz => Box::new(Xz(XzReader::new_mem_limit(whole, true, XZ_MIB_MAX << 10))),
        Packing::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
        Packing::Other(program) => bail!(
            "it is packed by {program}, which is not among gzip, zstd, xz and bzip2: unpack it by `{program} -d` first"
        ),
    })
}

/// Unpacks what xz has packed, and says in words what it refuses.
struct Xz<R: Read>(XzReader<R>);

impl<R: Read> Read for Xz<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to).map_err(|error| match error.kind() {
            ErrorKind::OutOfMemory => io::Error::other(format!(
                "xz would take more than {XZ_MIB_MAX} MiB of memory to unpack it"
            )),
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bzip2, gzip, xz};

    fn text(packed: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        let mut reader = unpacked(packed).map_err(io::Error::other)?;
        reader.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_it_is_packed_with_is_told_by_its_bytes() {
        let skipped = [0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 0).unwrap();
        for (packed, expected) in [
            (b"plain".to_vec(), "plain"),
            (b"".to_vec(), ""),
            (gzip(b"packed"), "packed"),
            (xz(b"packed"), "packed"),
            (bzip2(b"packed"), "packed"),
            (
                [zstd("one"), skipped.to_vec(), zstd("two")].concat(),
                "onetwo",
            ),
            ([skipped.to_vec(), zstd("one")].concat(), "one"),
        ] {
            assert_eq!(text(&packed).unwrap(), expected);
        }
    }

    #[test]
    fn what_was_packed_in_parts_is_one() {
        for pack in [gzip, xz, bzip2] {
            let packed = [pack(b"one"), pack(b"two")].concat();
            assert_eq!(text(&packed).unwrap(), "onetwo");
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_refused() {
        for pack in [gzip, xz, bzip2] {
            let whole = pack(b"some words that are packed");
            for end in MAGIC_BYTES..whole.len() {
                let error = text(&whole[..end]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{end}: {error}");
            }
            let mut damaged = whole.clone();
            damaged[whole.len() - 6] ^= 4;
            assert!(text(&damaged).is_err());
        }
    }

    /// What xz has packed, with a dictionary of another size: `.xz` 1.2.1, "Block Header", "LZMA2".
    fn with_dictionary(mut packed: Vec<u8>, size: u8) -> Vec<u8> {
        packed[16] = size;
        let mut sum = flate2::Crc::new();
        sum.update(&packed[12..20]);
        packed[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        packed
    }

    #[test]
    fn a_stream_cannot_have_all_of_the_memory() {
        let (mib_64, mib_1536) = (28, 37);
        let unpacked = |size| text(&with_dictionary(xz(b"packed"), size));
        assert_eq!(unpacked(mib_64).unwrap(), "packed");
        let words = "xz would take more than 128 MiB of memory to unpack it";
        assert_eq!(unpacked(mib_1536).unwrap_err().to_string(), words);
    }

    #[test]
    fn what_is_packed_otherwise_is_not_taken() {
        for (magic, program) in OTHERS {
            assert!(is_packed(magic));
            let error = unpacked(magic).map(drop).unwrap_err().to_string();
            let words = format!(
                "it is packed by {program}, which is not among gzip, zstd, xz and bzip2: unpack it by `{program} -d` first"
            );
            assert_eq!(error, words);
        }
    }
}
