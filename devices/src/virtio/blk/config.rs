//! The configuration space (virtio 1.2 §5.2.4), and the limits that it tells.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::{QUEUE_SIZE, SECTOR_BYTES};

/// Data segments of a request: what fits a queue beside header and status, even without indirect
/// descriptors.
const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// Sectors of what the host's file systems allocate at once, 4 KiB: Linux aligns partitions and
/// discards by it.
const SECTORS_PER_BLOCK: u32 = 8;
const SECTORS_PER_BLOCK_LOG2: u8 = 3;

/// Ranges of one discard, and the sectors of each: 16 GiB in all. Taking that much from a file
/// that has it takes the host's file system a second or so, and delays one queue.
pub const DISCARD_RANGES_MAX: u32 = 16;
pub const DISCARD_SECTORS_MAX: u32 = (1 << 30) / SECTOR_BYTES as u32;

/// Sectors that one request fills with zeros, 64 MiB: where the host's file system cannot do it,
/// they are written.
pub const ZERO_SECTORS_MAX: u32 = (64 << 20) / SECTOR_BYTES as u32;
/// Ranges of such a request.
pub const ZERO_RANGES_MAX: u32 = 1;

/// `struct virtio_blk_config`, as far as this device's features reach.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub struct Space {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    geometry: [u8; 4],
    blk_size: U32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: U16,
    opt_io_size: U32,
    writeback: u8,
    unused0: u8,
    num_queues: U16,
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused1: [u8; 3],
}

impl Space {
    /// Of a disk of that many sectors.
    pub fn new(sectors: u64, queues: u16, can_discard: bool) -> Self {
        // What belongs to a feature that is not offered is zero.
        let discard = |value: u32| U32::new(if can_discard { value } else { 0 });
        Self {
            capacity: sectors.into(),
            size_max: 0.into(),
            seg_max: SEGMENTS_MAX.into(),
            geometry: [0; 4],
            // The smallest that there is, so that images made elsewhere fit.
            blk_size: (SECTOR_BYTES as u32).into(),
            physical_block_exp: SECTORS_PER_BLOCK_LOG2,
            alignment_offset: 0,
            min_io_size: (SECTORS_PER_BLOCK as u16).into(),
            opt_io_size: 0.into(),
            writeback: 0,
            unused0: 0,
            num_queues: queues.into(),
            max_discard_sectors: discard(DISCARD_SECTORS_MAX),
            max_discard_seg: discard(DISCARD_RANGES_MAX),
            discard_sector_alignment: discard(SECTORS_PER_BLOCK),
            max_write_zeroes_sectors: discard(ZERO_SECTORS_MAX),
            max_write_zeroes_seg: discard(ZERO_RANGES_MAX),
            write_zeroes_may_unmap: can_discard.into(),
            unused1: [0; 3],
        }
    }
}
