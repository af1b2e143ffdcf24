//! A disk's file that is mounted over 9p, as the host's files are in an emulated host.
//!
//! The one thing to know: a write that a signal cuts short, such as the one that kills the monitor,
//! is resumed by Linux (seen in 6.12) where it began, with the bytes that come later. Blocks would
//! be overwritten that the guest was told are on the disk. So each write is one page of this
//! process, which is one request to the server, and is done or not done. It costs nothing: Linux
//! makes a request of each page anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::fstatfs;

use super::Medium;
use super::image::Image;
use crate::virtio::Buffers;

/// `V9FS_MAGIC` of Linux' `magic.h`.
const V9FS_MAGIC: u64 = 0x0102_1997;

const PAGE_BYTES: usize = 4096;

/// One page of memory, so that a write of it has one piece.
#[repr(align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Whether the file is mounted over 9p.
pub fn has(file: &File) -> bool {
    fstatfs(file).is_ok_and(|facts| u64::try_from(facts.f_type) == Ok(V9FS_MAGIC))
}

/// Such a file.
pub struct Plan9(pub Image);

impl Medium for Plan9 {
    fn read(&self, offset: u64, bytes: usize, to: &mut Buffers) -> io::Result<()> {
        self.0.read(offset, bytes, to)
    }

    fn write(&self, offset: u64, bytes: usize, from: &mut Buffers) -> io::Result<()> {
        let mut page = Page([0; PAGE_BYTES]);
        let mut done: usize = 0;
        while done < bytes {
            let left = bytes.saturating_sub(done).min(PAGE_BYTES);
            let part = page.0.get_mut(..left).unwrap_or_default();
            let read = from.read(part).map_err(|_| io::ErrorKind::InvalidData)?;
            if read < left {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let to = self.0.place(offset).saturating_add(done as u64);
            self.0.file().write_all_at(part, to)?;
            done = done.saturating_add(left);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.0.discard(offset, bytes)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.0.zero(offset, bytes)
    }
}
