//! An archive, from one header to the next, with what extended headers say of each entry.
//!
//! The one thing to know: only here is known where the next header is. An extended header may say
//! another size than the entry's own (files of 8 GiB and more), a sparse file has its map between its
//! header and its bytes, and what makes no regular file has none, as Go's `archive/tar` has it, which
//! container engines read with. The library reads the fields of headers.

use std::borrow::Cow;
use std::io::{self, Read};

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

use crate::pax::{Extensions, long_name};
use crate::sparse::Map;

/// Bytes of a header; content is padded to a multiple of it.
pub const BLOCK_BYTES: usize = 512;

/// What is said of an archive that ends too early.
pub const CUT_OFF: &str = "the archive is cut off";

/// What an archive is read from.
pub trait Source: Read {
    /// Passes over bytes.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn skip(&mut self, bytes: u64) -> Result<()>;
}

/// A stream, of which what is passed over is read.
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.0.read(to)
    }
}

impl<R: Read> Source for Stream<R> {
    fn skip(&mut self, bytes: u64) -> Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())?;
        ensure!(skipped == bytes, CUT_OFF);
        Ok(())
    }
}

/// An entry that is no extended header.
pub struct Head {
    /// Its own header.
    pub header: Header,
    /// What was said of it before.
    pub extensions: Extensions,
    /// Its name, as it is written.
    pub name: Vec<u8>,
    /// Where its bytes belong, if it is a sparse file.
    pub sparse: Option<Map>,
    /// Where in the archive its bytes begin.
    pub begin: u64,
    /// How many there are in the archive.
    pub bytes: u64,
}

impl Head {
    /// What a link leads to, as it is written; none if nothing is.
    pub fn target(&self) -> Option<Cow<'_, [u8]>> {
        match &self.extensions.link {
            Some(target) => Some(target.into()),
            None => self.header.link_name_bytes(),
        }
    }
}

/// A walk through an archive. Read, it is the bytes of the entry that it is at.
pub struct Walk<S> {
    source: S,
    position: u64,
    /// Behind the entry's bytes.
    end: u64,
}

impl<S: Source> Walk<S> {
    /// From the beginning.
    pub fn new(source: S) -> Self {
        Self {
            source,
            position: 0,
            end: 0,
        }
    }

    /// The next entry; none at the end, which archives may leave out.
    ///
    /// # Errors
    /// The archive is cut off or damaged, or says what cannot be.
    pub fn next(&mut self) -> Result<Option<Head>> {
        let mut extensions = Extensions::default();
        while let Some(header) = self.header()? {
            self.enter(header.entry_size().context("its size")?)?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(long_name(self)?),
                EntryType::GNULongLink => extensions.link = Some(long_name(self)?),
                EntryType::XHeader => extensions.take(self)?,
                // Defaults for all that follows: git puts its commit there.
                EntryType::XGlobalHeader => {}
                _ => return self.head(header, extensions).map(Some),
            }
        }
        Ok(None)
    }

    fn head(&mut self, header: Header, mut extensions: Extensions) -> Result<Head> {
        let name = extensions.sparse.name.take().or(extensions.path.take());
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&name).into_owned();
        let at = || format!("entry {shown:?}");
        let kind = header.entry_type();
        let is_empty = matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        let stored = match extensions.size {
            _ if is_empty => 0,
            Some(size) => size,
            None => header.entry_size()?,
        };
        let sparse = if kind == EntryType::GNUSparse {
            let map = Map::of_header(&header, || self.block()).with_context(at)?;
            self.enter(stored)?;
            Some(map)
        } else {
            self.enter(stored)?;
            let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
            let keys = std::mem::take(&mut extensions.sparse);
            let map = keys.map(self).with_context(at)?;
            ensure!(
                map.is_none() || is_file,
                "{}: it is sparse, and no file",
                at()
            );
            map
        };
        let bytes = self.end - self.position;
        if let Some(map) = &sparse {
            map.check(bytes).with_context(at)?;
        }
        Ok(Head {
            header,
            extensions,
            name,
            sparse,
            begin: self.position,
            bytes,
        })
    }

    /// The bytes from here on are the entry's.
    fn enter(&mut self, bytes: u64) -> Result<()> {
        let end = self.position.checked_add(bytes);
        // What pads it must be at a place, too.
        let end = end.filter(|end| end.checked_next_multiple_of(BLOCK_BYTES as u64).is_some());
        self.end = end.context("the archive says a size that nothing has")?;
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        self.source.skip(self.end - self.position)?;
        let padding = self.end.next_multiple_of(BLOCK_BYTES as u64) - self.end;
        let mut reader = self.source.by_ref().take(padding);
        io::copy(&mut reader, &mut io::sink())?;
        self.position = self.end + padding;
        self.end = self.position;
        let Some(block) = self.try_block()? else {
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let fields = block.iter().enumerate();
        // Its own field counts as blanks (`chksum`).
        let sum: u32 = fields
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                }
            })
            .map(u32::from)
            .sum();
        ensure!(
            header.cksum().is_ok_and(|told| told == sum),
            "a header of the archive is damaged"
        );
        Ok(Some(header.clone()))
    }

    fn block(&mut self) -> Result<[u8; BLOCK_BYTES]> {
        self.try_block()?.context(CUT_OFF)
    }

    /// The next block, if the archive does not end here.
    fn try_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => bail!(CUT_OFF),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read the archive"),
            }
        }
        self.position += BLOCK_BYTES as u64;
        self.end = self.end.max(self.position);
        Ok(Some(block))
    }
}

impl<S: Source> Read for Walk<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let most = left.min(to.len());
        let read = self.source.read(&mut to[..most])?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Layer;

    fn names(bytes: &[u8]) -> Result<Vec<String>> {
        let mut walk = Walk::new(Stream(bytes));
        let mut names = Vec::new();
        while let Some(head) = walk.next()? {
            names.push(String::from_utf8_lossy(&head.name).into_owned());
        }
        Ok(names)
    }

    #[test]
    fn a_size_before_an_entry_wins_over_its_own() {
        let layer = Layer::new()
            .record("size", b"600")
            .raw_file("a", 5, &[b'x'; 600])
            .file("b", "");
        assert_eq!(names(&layer.bytes()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_file_has_no_bytes_whatever_it_says() {
        let mut layer = Layer::new().hard_link("h", "x").file("b", "").bytes();
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&layer[..512]);
        header.set_size(600);
        header.set_cksum();
        layer[..512].copy_from_slice(header.as_bytes());
        assert_eq!(names(&layer).unwrap(), ["h", "b"]);
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_told() {
        let bytes = Layer::new().file("a", "content").file("b", "").bytes();
        let error = |bytes: &[u8]| names(bytes).unwrap_err().to_string();
        assert_eq!(error(&bytes[..515]), CUT_OFF);
        assert_eq!(error(&bytes[..1100]), CUT_OFF);
        // Without its padding the last entry is whole.
        assert_eq!(names(&bytes[..519]).unwrap(), ["a"]);
        let mut damaged = bytes;
        damaged[1024] ^= 1;
        assert_eq!(error(&damaged), "a header of the archive is damaged");
        let endless = Layer::new().record("size", b"18446744073709551615");
        let endless = endless.file("a", "").bytes();
        assert_eq!(error(&endless), "the archive says a size that nothing has");
    }
}
