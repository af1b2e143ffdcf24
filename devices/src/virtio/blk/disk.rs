//! What a disk does with a request that has been taken apart: checks it, and has its medium do it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Counters, SERIAL_BYTES_MAX, Traits};
use crate::log::Log;
use crate::virtio::Buffers;

/// Bytes of a sector, whatever the disk's own blocks are (§5.2.4).
pub const SECTOR_BYTES: u64 = 512;

/// What keeps a disk's bytes. Ranges have been checked: they lie within the disk.
pub trait Medium: Send + Sync {
    /// Reads exactly `bytes` at `offset`.
    ///
    /// # Errors
    /// The host cannot, or there are not so many.
    fn read(&self, offset: u64, bytes: usize, to: &mut Buffers) -> io::Result<()>;

    /// Writes exactly `bytes` at `offset`.
    ///
    /// # Errors
    /// The host cannot, or has no room.
    fn write(&self, offset: u64, bytes: usize, from: &mut Buffers) -> io::Result<()>;

    /// Returns when all that was written is where it survives a power failure.
    ///
    /// # Errors
    /// Some of it is lost.
    fn flush(&self) -> io::Result<()>;

    /// Gives the room of a range back; it reads as zeros afterwards.
    ///
    /// # Errors
    /// The host cannot.
    fn discard(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Fills a range with zeros, and keeps its room.
    ///
    /// # Errors
    /// The host cannot, or has no room.
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A request's outcome, §5.2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `VIRTIO_BLK_S_OK`.
    Ok = 0,
    /// `VIRTIO_BLK_S_IOERR`: also for what breaks the disk's limits.
    IoError = 1,
    /// `VIRTIO_BLK_S_UNSUPP`.
    Unsupported = 2,
}

/// A disk, which all its queues share.
pub struct Disk {
    medium: Box<dyn Medium>,
    sectors: u64,
    read_only: bool,
    can_discard: bool,
    serial: [u8; SERIAL_BYTES_MAX],
    name: String,
    log: Log,
    counters: Arc<Counters>,
    /// A flush failed. Linux tells that once and takes the pages for clean (`errseq_t`), so the
    /// next flush would succeed although data is lost.
    is_lost: AtomicBool,
}

impl Disk {
    /// A disk of that many sectors.
    pub fn new(medium: Box<dyn Medium>, sectors: u64, traits: &Traits) -> Self {
        let mut serial = [0; SERIAL_BYTES_MAX];
        for (to, from) in serial.iter_mut().zip(traits.serial.bytes()) {
            *to = from;
        }
        Self {
            medium,
            sectors,
            read_only: traits.read_only,
            can_discard: traits.can_discard,
            serial,
            name: traits.name.clone(),
            log: Log::new(),
            counters: traits.counters.clone(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Whether every change is refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether ranges can be discarded, or zeroed without data.
    pub fn can_discard(&self) -> bool {
        self.can_discard
    }

    /// The serial, with zeros behind it.
    pub fn serial(&self) -> &[u8; SERIAL_BYTES_MAX] {
        &self.serial
    }

    /// Reads `bytes` from `sector` on.
    pub fn read(&self, sector: u64, bytes: usize, to: &mut Buffers) -> Status {
        match self.offset(sector, bytes as u64) {
            Some(offset) => {
                self.counters.count_read(bytes);
                self.tell("read", self.medium.read(offset, bytes, to))
            }
            None => Status::IoError,
        }
    }

    /// Writes `bytes` from `sector` on.
    pub fn write(&self, sector: u64, bytes: usize, from: &mut Buffers) -> Status {
        match self.offset(sector, bytes as u64) {
            Some(offset) => {
                self.counters.count_write(bytes);
                self.tell("write", self.medium.write(offset, bytes, from))
            }
            None => Status::IoError,
        }
    }

    /// Makes what was written durable.
    pub fn flush(&self) -> Status {
        if self.is_lost.load(Ordering::SeqCst) {
            return Status::IoError;
        }
        self.counters.count_flush();
        let status = self.tell("flush", self.medium.flush());
        if status != Status::Ok {
            self.is_lost.store(true, Ordering::SeqCst);
        }
        status
    }

    /// Whether a range of sectors lies within the disk.
    pub fn holds(&self, sector: u64, sectors: u32) -> bool {
        sector
            .checked_add(sectors.into())
            .is_some_and(|end| end <= self.sectors)
    }

    /// Gives up a range that the disk holds.
    pub fn discard(&self, sector: u64, sectors: u32) -> Status {
        let (offset, bytes) = byte_range(sector, sectors);
        self.tell("discard", self.medium.discard(offset, bytes))
    }

    /// Zeroes a range that the disk holds.
    pub fn zero(&self, sector: u64, sectors: u32) -> Status {
        let (offset, bytes) = byte_range(sector, sectors);
        self.tell("zero", self.medium.zero(offset, bytes))
    }

    /// Where a request's data lies, if that is whole sectors of the disk.
    fn offset(&self, sector: u64, bytes: u64) -> Option<u64> {
        let end = sector.checked_add(bytes / SECTOR_BYTES)?;
        let is_whole = bytes.is_multiple_of(SECTOR_BYTES);
        (is_whole && end <= self.sectors).then(|| sector.saturating_mul(SECTOR_BYTES))
    }

    fn tell(&self, verb: &str, done: io::Result<()>) -> Status {
        match done {
            Ok(()) => Status::Ok,
            Err(error) => {
                let name = &self.name;
                self.log.tell(format_args!("cannot {verb} {name}: {error}"));
                Status::IoError
            }
        }
    }
}

/// Offset and length in bytes. The disk holds the range, so neither can overflow.
fn byte_range(sector: u64, sectors: u32) -> (u64, u64) {
    let bytes = |sectors: u64| sectors.saturating_mul(SECTOR_BYTES);
    (bytes(sector), bytes(sectors.into()))
}
