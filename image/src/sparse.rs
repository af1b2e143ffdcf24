//! Sparse files: where the bytes that an archive has of them belong; all between is zero.
//!
//! The one thing to know: a map is the sender's word. It is bounded while it is read, and refused
//! unless its pieces are in order, apart from each other, within the file and as many bytes as there
//! are, as Go's `archive/tar` has it. GNU tar, "Storing Sparse Files": the old format has the map in
//! the header and in blocks behind it, those of pax(1) in the extended header (0.0, 0.1) or before
//! the bytes (1.0).

use std::io::Read;

use anyhow::{Context, Result, ensure};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::pax::{number, path};
use crate::walk::BLOCK_BYTES;

/// Pieces of one file.
const PIECES_MAX: usize = 1 << 20;

/// Bytes of a map that stands before the file's own: as many as of an extended header.
const MAP_BYTES_MAX: usize = 1 << 20;

/// Digits of a number in such a map: the largest has twenty.
const DIGITS_MAX: usize = 20;

const FORM: &str = "it is a sparse file whose map is damaged";

/// Where the bytes of a file belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Length of the file.
    pub bytes: u64,
    /// Where each piece begins in it, and its length.
    pub pieces: Vec<(u64, u64)>,
}

impl Map {
    /// The map of the old format, which goes on in as many of the blocks that follow as it says.
    pub fn of_header(
        header: &Header,
        mut next: impl FnMut() -> Result<[u8; BLOCK_BYTES]>,
    ) -> Result<Self> {
        let header = header.as_gnu().context(FORM)?;
        let bytes = header.real_size().context(FORM)?;
        let mut pieces = Vec::new();
        take(&mut pieces, &header.sparse)?;
        let mut goes_on = header.is_extended();
        while goes_on {
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&next()?);
            take(&mut pieces, &more.sparse)?;
            goes_on = more.is_extended();
        }
        Ok(Self { bytes, pieces })
    }

    /// Whether it can be the map of a file of which there are so many bytes.
    pub fn check(&self, stored: u64) -> Result<()> {
        let (mut end, mut sum) = (0, 0);
        for (offset, bytes) in &self.pieces {
            ensure!(
                *offset >= end,
                "it is a sparse file whose pieces overlap or are out of order"
            );
            let next = offset.checked_add(*bytes);
            end = next
                .filter(|next| *next <= self.bytes)
                .context("it is a sparse file with a piece behind its end")?;
            // No more than `end`, since they are apart.
            sum += bytes;
        }
        ensure!(
            sum == stored,
            "it is a sparse file with {stored} bytes, whose map is of {sum}"
        );
        Ok(())
    }
}

/// Takes the pieces of a header, which end with one that says nothing.
fn take(pieces: &mut Vec<(u64, u64)>, more: &[GnuSparseHeader]) -> Result<()> {
    for piece in more.iter().take_while(|piece| piece.offset[0] != 0) {
        ensure!(pieces.len() < PIECES_MAX, TOO_MANY);
        pieces.push((piece.offset().context(FORM)?, piece.length().context(FORM)?));
    }
    Ok(())
}

const TOO_MANY: &str = "it is a sparse file of more pieces than are taken";

/// What extended headers of pax(1) say of a sparse file.
#[derive(Default)]
pub struct Keys {
    /// The file's own name, where that of its header is made up.
    pub name: Option<Vec<u8>>,
    version: (Option<Vec<u8>>, Option<Vec<u8>>),
    bytes: Option<u64>,
    count: Option<u64>,
    /// Offsets and lengths in turn.
    numbers: Option<Vec<u64>>,
}

impl Keys {
    /// Takes what is said under `key`, which stands behind `GNU.sparse.`.
    pub fn take(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match key {
            "name" => self.name = Some(path(value)?),
            "major" => self.version.0 = Some(value.into()),
            "minor" => self.version.1 = Some(value.into()),
            "size" | "realsize" => self.bytes = Some(number(key, value)?),
            "numblocks" => self.count = Some(number(key, value)?),
            "map" => {
                let numbers = value.split(|byte| *byte == b',');
                let numbers = numbers.filter(|_| !value.is_empty());
                let numbers = numbers.map(|one| number(key, one));
                self.numbers = Some(numbers.collect::<Result<_>>()?);
            }
            "offset" | "numbytes" => {
                let numbers = self.numbers.get_or_insert_default();
                let is_offset = numbers.len().is_multiple_of(2);
                ensure!(is_offset == (key == "offset"), FORM);
                numbers.push(number(key, value)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The map, if it is a sparse file, whose bytes `content` has, in 1.0 behind the map. What has a
    /// version of later times is a file as any other.
    pub fn map(self, content: &mut impl Read) -> Result<Option<Map>> {
        let (major, minor) = (self.version.0.as_deref(), self.version.1.as_deref());
        let pieces = match (major, minor) {
            (Some(b"1"), Some(b"0")) => before_content(content)?,
            (None, None) | (Some(b"0"), Some(b"0" | b"1")) => {
                let Some(numbers) = self.numbers else {
                    return Ok(None);
                };
                let (pieces, rest) = numbers.as_chunks();
                ensure!(
                    rest.is_empty() && self.count.is_none_or(|it| it == pieces.len() as u64),
                    FORM
                );
                pieces
                    .iter()
                    .map(|[offset, bytes]| (*offset, *bytes))
                    .collect()
            }
            _ => return Ok(None),
        };
        let bytes = self.bytes.context("it is a sparse file of no length")?;
        Ok(Some(Map { bytes, pieces }))
    }
}

/// The map of 1.0: a count, offsets and lengths, each a line; then zeros up to the end of a block.
fn before_content(content: &mut impl Read) -> Result<Vec<(u64, u64)>> {
    let mut lines = Lines {
        content,
        bytes: Vec::new(),
        next: 0,
    };
    let count = usize::try_from(lines.number()?).unwrap_or(usize::MAX);
    ensure!(count <= PIECES_MAX, TOO_MANY);
    (0..count)
        .map(|_| Ok((lines.number()?, lines.number()?)))
        .collect()
}

/// Numbers of a text that is read by blocks.
struct Lines<'a, R> {
    content: &'a mut R,
    bytes: Vec<u8>,
    next: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            let Some(byte) = self.bytes.get(self.next).copied() else {
                self.block()?;
                continue;
            };
            self.next += 1;
            if byte == b'\n' {
                return number("the map", &digits);
            }
            digits.push(byte);
            ensure!(digits.len() <= DIGITS_MAX, FORM);
        }
    }

    fn block(&mut self) -> Result<()> {
        ensure!(self.bytes.len() < MAP_BYTES_MAX, TOO_MANY);
        let mut block = [0; BLOCK_BYTES];
        self.content.read_exact(&mut block).context(FORM)?;
        self.bytes.extend(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
