//! One request (virtio 1.2 §5.2.6): taken apart, judged, answered.
//!
//! A driver may cut a request into buffers as it likes (§2.7.4): what it lets the device read is
//! the header and then data, what it lets the device write is data and then, last, the status.

use virtio_bindings::virtio_blk as blk;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::config::{DISCARD_RANGES_MAX, DISCARD_SECTORS_MAX, ZERO_RANGES_MAX, ZERO_SECTORS_MAX};
use super::disk::{Disk, Status};
use crate::virtio::{Buffers, Chain, Fault};

/// `struct virtio_blk_outhdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// `struct virtio_blk_discard_write_zeroes`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

/// The one flag of a [`Range`].
const UNMAP: u32 = blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

/// Carries the request in `chain` out; how many bytes the driver may rely on.
///
/// # Errors
/// There is no header, or no byte for the status, where the device reaches: nothing can be answered.
pub fn serve(disk: &Disk, chain: &mut Chain) -> Result<usize, Fault> {
    let is_reachable = chain.is_reachable();
    let Chain {
        readable, writable, ..
    } = chain;
    let header: Header = readable.read_object()?;
    let Some(room) = writable.remaining_bytes().checked_sub(1) else {
        return Err(Fault::Guest("a request has no room for its status"));
    };
    let status = if is_reachable {
        carry_out(disk, &header, readable, writable, room)?
    } else {
        Status::IoError
    };
    let filled = writable.consumed_bytes();
    writable.skip(room.saturating_sub(filled));
    writable.write(&[status as u8])?;
    // All up to the length are bytes that were written (§2.7.8.2). A status with a gap before it
    // is not among them.
    Ok(if filled == room {
        writable.consumed_bytes()
    } else {
        filled
    })
}

fn carry_out(
    disk: &Disk,
    header: &Header,
    readable: &mut Buffers,
    writable: &mut Buffers,
    room: usize,
) -> Result<Status, Fault> {
    let changes = matches!(
        header.kind,
        blk::VIRTIO_BLK_T_OUT | blk::VIRTIO_BLK_T_DISCARD | blk::VIRTIO_BLK_T_WRITE_ZEROES
    );
    if changes && disk.is_read_only() {
        // Whether or not the driver took the feature (§5.2.6.2).
        return Ok(Status::IoError);
    }
    Ok(match header.kind {
        blk::VIRTIO_BLK_T_IN => disk.read(header.sector, room, writable),
        blk::VIRTIO_BLK_T_OUT => disk.write(header.sector, readable.remaining_bytes(), readable),
        blk::VIRTIO_BLK_T_FLUSH => disk.flush(),
        blk::VIRTIO_BLK_T_GET_ID if room < disk.serial().len() => Status::IoError,
        blk::VIRTIO_BLK_T_GET_ID => {
            writable.write(disk.serial())?;
            Status::Ok
        }
        blk::VIRTIO_BLK_T_DISCARD if disk.can_discard() => discard(disk, readable)?,
        blk::VIRTIO_BLK_T_WRITE_ZEROES if disk.can_discard() => write_zeroes(disk, readable)?,
        _ => Status::Unsupported,
    })
}

fn discard(disk: &Disk, readable: &mut Buffers) -> Result<Status, Fault> {
    let mut ranges = [EMPTY; DISCARD_RANGES_MAX as usize];
    let Some(ranges) = read_ranges(readable, &mut ranges)? else {
        return Ok(Status::IoError);
    };
    if ranges.iter().any(|range| range.flags != 0) {
        return Ok(Status::Unsupported);
    }
    Ok(each(disk, ranges, DISCARD_SECTORS_MAX, |range| {
        disk.discard(range.sector, range.sectors)
    }))
}

fn write_zeroes(disk: &Disk, readable: &mut Buffers) -> Result<Status, Fault> {
    let mut ranges = [EMPTY; ZERO_RANGES_MAX as usize];
    let Some(ranges) = read_ranges(readable, &mut ranges)? else {
        return Ok(Status::IoError);
    };
    if ranges.iter().any(|range| range.flags & !UNMAP != 0) {
        return Ok(Status::Unsupported);
    }
    Ok(each(disk, ranges, ZERO_SECTORS_MAX, |range| {
        if range.flags & UNMAP != 0 {
            disk.discard(range.sector, range.sectors)
        } else {
            disk.zero(range.sector, range.sectors)
        }
    }))
}

const RANGE_BYTES: usize = size_of::<Range>();

const EMPTY: Range = Range {
    sector: 0,
    sectors: 0,
    flags: 0,
};

/// The ranges that a request names; none where they are not whole, or more than `room` holds.
fn read_ranges<'a>(
    readable: &mut Buffers,
    room: &'a mut [Range],
) -> Result<Option<&'a [Range]>, Fault> {
    let bytes = readable.remaining_bytes();
    let count = bytes / RANGE_BYTES;
    let is_whole = bytes > 0 && bytes.is_multiple_of(RANGE_BYTES);
    let Some(ranges) = room.get_mut(..count).filter(|_| is_whole) else {
        return Ok(None);
    };
    for range in &mut *ranges {
        *range = readable.read_object()?;
    }
    Ok(Some(ranges))
}

/// Does all, or none if one of them cannot be.
fn each(
    disk: &Disk,
    ranges: &[Range],
    sectors_max: u32,
    change: impl Fn(&Range) -> Status,
) -> Status {
    let is_good = |range: &Range| {
        (1..=sectors_max).contains(&range.sectors) && disk.holds(range.sector, range.sectors)
    };
    if !ranges.iter().all(is_good) {
        return Status::IoError;
    }
    let mut statuses = ranges.iter().map(change);
    statuses
        .find(|status| *status != Status::Ok)
        .unwrap_or(Status::Ok)
}
