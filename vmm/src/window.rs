//! A part of a file, which is read, copied and mapped as if it were a file of its own.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, bail, ensure};
use devices::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::memory;

/// A part of a file. Offsets are counted from its start, and nothing outside is reached.
#[derive(Debug)]
pub struct Window {
    file: File,
    start: u64,
    bytes: u64,
}

impl Window {
    /// All of a file, as long as it is now.
    ///
    /// # Errors
    /// The host does not tell its length.
    pub fn whole(file: File) -> std::io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self {
            file,
            start: 0,
            bytes,
        })
    }

    /// The part at `range`, in bytes.
    pub fn part(file: File, range: Range<u64>) -> Self {
        Self {
            file,
            start: range.start,
            bytes: range.end.saturating_sub(range.start),
        }
    }

    /// Its length.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, and where in it this is.
    pub fn into_file(self) -> (File, Range<u64>) {
        let range = self.start..self.start.saturating_add(self.bytes);
        (self.file, range)
    }

    /// Fills `to` from `offset` on.
    ///
    /// # Errors
    /// It ends before, or cannot be read.
    pub fn read_at(&self, to: &mut [u8], offset: u64) -> anyhow::Result<()> {
        let from = self.place(offset, to.len() as u64)?;
        self.file
            .read_exact_at(to, from)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => anyhow::anyhow!("it ends too early"),
                _ => error.into(),
            })
    }

    /// What is there of `to.len()` bytes from `offset` on: fewer at its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_some_at(&self, to: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let left = self.bytes.saturating_sub(offset);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
        let from = self.start.saturating_add(offset);
        self.file.read_at(&mut to[..most], from)
    }

    /// Copies `bytes` from `offset` on into guest memory, with nothing in between.
    ///
    /// # Errors
    /// It ends before, cannot be read, or there is no such memory.
    pub fn copy(
        &self,
        memory: &Memory,
        gpa: GuestAddress,
        offset: u64,
        bytes: usize,
    ) -> anyhow::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.place(offset, bytes as u64)?))?;
        memory
            .read_exact_volatile_from(gpa, &mut file, bytes)
            .context("it ends too early")
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It ends before, cannot be read, or `to` takes no more.
    pub fn write(&self, to: &mut dyn Write) -> anyhow::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start))?;
        let written = std::io::copy(&mut file.take(self.bytes), to)?;
        ensure!(written == self.bytes, "it ends too early");
        Ok(())
    }

    /// Replaces guest pages by a private mapping of it, as [`memory::map_file`] does.
    ///
    /// # Errors
    /// It ends before, lies at a broken page of its file, or cannot be mapped.
    pub fn map(&self, memory: &Memory, gpa: u64, bytes: u64, offset: u64) -> anyhow::Result<()> {
        let from = self.place(offset, bytes)?;
        memory::map_file(memory, gpa, bytes, &self.file, from)
    }

    /// Where in the file are `bytes` from `offset` on.
    fn place(&self, offset: u64, bytes: u64) -> anyhow::Result<u64> {
        let Some(end) = offset.checked_add(bytes) else {
            bail!("it ends too early");
        };
        ensure!(end <= self.bytes, "it ends too early");
        self.start.checked_add(offset).context("it ends too early")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn nothing_outside_is_read() {
        let window = Window::part(file(b"..inside.."), 2..8);
        let mut bytes = [0; 6];
        window.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"inside");
        window.read_at(&mut bytes[..2], 4).unwrap();
        assert_eq!(&bytes[..2], b"de");
        for (offset, length) in [(1, 6), (6, 1), (u64::MAX, 2)] {
            let error = window.read_at(&mut bytes[..length], offset).unwrap_err();
            assert_eq!(error.to_string(), "it ends too early");
        }
        assert_eq!(window.read_some_at(&mut bytes, 3).unwrap(), 3);
        assert_eq!(window.read_some_at(&mut bytes, 9).unwrap(), 0);
    }

    #[test]
    fn it_is_mapped_from_where_it_lies() {
        let memory = memory::allocate(1 << 20).unwrap();
        let content = [vec![1; 4096], vec![2; 4096], vec![3; 4096]].concat();
        let window = Window::part(file(&content), 4096..8192);
        window.map(&memory, 0x4000, 4096, 0).unwrap();
        window.copy(&memory, GuestAddress(0x8000), 4095, 1).unwrap();
        let at = |gpa| memory.read_obj::<u8>(GuestAddress(gpa)).unwrap();
        assert_eq!((at(0x4000), at(0x4fff), at(0x8000)), (2, 2, 2));
        assert!(window.map(&memory, 0x4000, 8192, 0).is_err());
    }
}
