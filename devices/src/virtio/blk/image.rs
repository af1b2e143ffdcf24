//! A disk's sectors in a file of the host.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, FileType, SeekFrom, fallocate, fdatasync, fstat, seek};
use rustix::io::{Errno, pwrite, retry_on_intr};

use super::Medium;
use crate::virtio::{Buffers, Position};

/// Zeros written at once, where the file system cannot make them by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// An open file.
pub struct Image {
    file: File,
    /// Where in the file the disk begins.
    start: u64,
    bytes: u64,
    can_discard: bool,
}

impl Image {
    /// Looks at how long the file is, and whether holes can be made in it. The disk is its bytes at
    /// `window`, or all of them.
    ///
    /// # Errors
    /// It has no length, or ends before the window does.
    pub fn open(file: File, window: Option<Range<u64>>) -> io::Result<Self> {
        // Of a block device too.
        let end = seek(&file, SeekFrom::End(0))?;
        let window = window.unwrap_or(0..end);
        if window.end > end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let is_file = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile;
        // Behind the end there is nothing to lose. A block device has nothing behind its end.
        let can_discard = is_file && fallocate(&file, HOLE, end, 1).is_ok();
        Ok(Self {
            file,
            start: window.start,
            bytes: window.end.saturating_sub(window.start),
            can_discard,
        })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file is what is at `offset` of the disk.
    pub fn place(&self, offset: u64) -> u64 {
        self.start.saturating_add(offset)
    }

    /// Length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether [`Medium::discard`] can work.
    pub fn can_discard(&self) -> bool {
        self.can_discard
    }

    fn write_zeros(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut done: u64 = 0;
        while done < bytes {
            let left = usize::try_from(bytes.saturating_sub(done)).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..left).unwrap_or(&ZEROS);
            let written = pwrite(&self.file, zeros, self.place(offset).saturating_add(done))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done = done.saturating_add(written as u64);
        }
        Ok(())
    }
}

/// Of `fallocate`: the range reads as zeros afterwards and takes no room.
const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

impl Medium for Image {
    fn read(&self, offset: u64, bytes: usize, to: &mut Buffers) -> io::Result<()> {
        whole(bytes, |done, left| {
            to.pread_from(
                self.file.as_fd(),
                self.place(offset).saturating_add(done),
                left,
            )
        })
    }

    fn write(&self, offset: u64, bytes: usize, from: &mut Buffers) -> io::Result<()> {
        whole(bytes, |done, left| {
            let to = Position::At(self.place(offset).saturating_add(done));
            from.pwrite_to(self.file.as_fd(), to, left)
        })
    }

    fn flush(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| fdatasync(&self.file))?)
    }

    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| {
            fallocate(&self.file, HOLE, self.place(offset), bytes)
        })?)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.file, flags, self.place(offset), bytes)) {
            // tmpfs, for one.
            Err(Errno::OPNOTSUPP) => self.write_zeros(offset, bytes),
            other => Ok(other?),
        }
    }
}

/// Calls again until all `bytes` are moved. A call moves less only before an error or the end of
/// the file, which the next call then tells.
fn whole(bytes: usize, mut call: impl FnMut(u64, usize) -> io::Result<usize>) -> io::Result<()> {
    let mut done: usize = 0;
    while done < bytes {
        match call(done as u64, bytes.saturating_sub(done)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => done = done.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
