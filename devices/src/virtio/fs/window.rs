//! The DAX window (virtio 1.2 §5.11.5): pieces of files that the guest reads as its memory.
//!
//! The window consists of units, each of which holds one piece of one file or nothing. What a unit holds is
//! the guest's to say: Linux keeps the list, and gives a unit back when it needs it for another file.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::region::{ALIGNMENT, Region};
use super::counters::Counters;
use super::lock;

/// Linux maps files by this many bytes (`FUSE_DAX_SZ`), at multiples of it, so no smaller unit is needed; the
/// guest is told so (`map_alignment`). Units are what keeps the mappings of this process few: at most two to a
/// unit, the piece and the zeros behind its end.
pub const UNIT_BYTES: u64 = 2 << 20;

/// As INIT has it, in powers of two.
pub const UNIT_SHIFT: u16 = UNIT_BYTES.trailing_zeros() as u16;

const _: () = assert!(UNIT_BYTES.is_multiple_of(ALIGNMENT));

/// The largest window. Its 4,096 units are at most 8,192 mappings of this process, of which Linux allows 65,530
/// (`vm.max_map_count`), and its guest has 128 MiB of `struct page` for it.
pub const WINDOW_BYTES_MAX: u64 = 8 << 30;

/// Smallest file that is mapped. A unit is spent on it, of which there are some hundreds, and a page fault on
/// each of its pages, where its content would come with one READ. Files of this size and more are a seventh of
/// those in a closure, and have six sevenths of its bytes.
pub const MAPPED_BYTES_MIN: u64 = 64 << 10;

/// A page of the host's.
const PAGE_BYTES: u64 = 4096;

/// A share's window.
pub struct Window {
    region: Arc<Region>,
    /// Which units hold a piece of a file. Locked also while they are changed, so that it is so.
    held: Mutex<Vec<bool>>,
    counters: Arc<Counters>,
}

/// A piece of a file.
pub struct Piece<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// Where in it the piece begins.
    pub offset: u64,
}

impl Window {
    /// A window that holds nothing yet.
    pub fn new(region: Arc<Region>, counters: Arc<Counters>) -> Self {
        let units = region.bytes() / UNIT_BYTES;
        let held = Mutex::new(vec![false; usize::try_from(units).unwrap_or_default()]);
        Self {
            region,
            held,
            counters,
        }
    }

    /// The `bytes` from `start` on, which the guest means.
    ///
    /// # Errors
    /// `EINVAL`: they are no whole units of the window, or none.
    pub fn range(&self, start: u64, bytes: u64) -> Result<Range<u64>, Errno> {
        let end = start.checked_add(bytes).ok_or(Errno::INVAL)?;
        let is_whole = start.is_multiple_of(UNIT_BYTES) && bytes.is_multiple_of(UNIT_BYTES);
        if bytes == 0 || end > self.region.bytes() || !is_whole {
            return Err(Errno::INVAL);
        }
        Ok(start..end)
    }

    /// Has the window hold a piece of a file at `range`, in place of what it held there. Behind the end of the
    /// file there are zeros.
    ///
    /// # Errors
    /// `EINVAL`: the piece is not of the file, or begins within a unit of it; else the host does not map it, and
    /// the window holds nothing there.
    pub fn hold(&self, range: Range<u64>, piece: &Piece<'_>) -> Result<(), Errno> {
        let left = piece.file_bytes.checked_sub(piece.offset);
        let left = left.filter(|left| *left > 0 && piece.offset.is_multiple_of(UNIT_BYTES));
        let left = left.ok_or(Errno::INVAL)?;
        let left = left.checked_next_multiple_of(PAGE_BYTES);
        let end = range.start.saturating_add(left.ok_or(Errno::INVAL)?);
        let end = end.min(range.end);
        let mut held = lock(&self.held);
        let mapped = self.region.map(range.start..end, piece.file, piece.offset);
        let held_end = if mapped.is_ok() { end } else { range.start };
        if held_end < range.end {
            self.region.clear(held_end..range.end)?;
        }
        units(&mut held, &range).fill(false);
        units(&mut held, &(range.start..held_end)).fill(true);
        self.count(&held);
        mapped.inspect_err(|_| self.counters.count_mapping_refused())
    }

    /// Has the window hold nothing at `range`.
    ///
    /// # Errors
    /// Those of [`Region::clear`].
    pub fn drop_held(&self, range: &Range<u64>) -> Result<(), Errno> {
        let mut held = lock(&self.held);
        // Else a guest could have the host change page tables for nothing.
        if units(&mut held, range).iter().any(|is_held| *is_held) {
            self.region.clear(range.clone())?;
            units(&mut held, range).fill(false);
            self.count(&held);
        }
        Ok(())
    }

    /// Has the window hold nothing.
    pub fn clear(&self) {
        // The range is the window's own.
        let _ = self.drop_held(&(0..self.region.bytes()));
    }

    fn count(&self, held: &[bool]) {
        let count = held.iter().filter(|is_held| **is_held).count();
        self.counters.set_mappings(count);
    }
}

/// The units of a range of the window, of the last of which it may have a part.
fn units<'a>(held: &'a mut [bool], range: &Range<u64>) -> &'a mut [bool] {
    let index = |units: u64| usize::try_from(units).unwrap_or(usize::MAX);
    let start = index(range.start / UNIT_BYTES);
    let end = index(range.end.div_ceil(UNIT_BYTES));
    held.get_mut(start..end).unwrap_or_default()
}
