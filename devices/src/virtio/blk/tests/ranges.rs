//! Discards and zeros: what they change, and what is refused.

use std::os::unix::fs::MetadataExt;

use super::*;

const UNMAP: u32 = blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

impl Disk {
    /// A request about ranges of (sector, sectors, flags).
    fn ranges(&mut self, kind: u32, ranges: &[(u64, u32, u32)]) -> u8 {
        for (place, (sector, sectors, flags)) in (0..).zip(ranges) {
            let at = self.data + place * 16;
            self.driver.write(at, &sector.to_le_bytes());
            self.driver.write(at + 8, &sectors.to_le_bytes());
            self.driver.write(at + 12, &flags.to_le_bytes());
        }
        self.request(kind, 0, 16 * ranges.len() as u32)
    }

    fn sector(&mut self, sector: u64) -> Vec<u8> {
        assert_eq!(self.request(IN, sector, SECTOR), OK);
        self.driver.read(self.data, 512)
    }
}

/// Bytes that the file takes of its file system.
fn room(file: &File) -> u64 {
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

#[test]
fn what_is_discarded_takes_no_room_and_reads_as_zeros() {
    let file = image();
    let before = room(&file);
    let mut disk = Disk::new(config(&file));
    assert_eq!(disk.ranges(DISCARD, &[(8, 64, 0), (128, 8, 0)]), OK);
    assert_eq!(before - room(&file), 72 * 512);
    assert_eq!(disk.sector(8), [0; 512]);
    assert_eq!(disk.sector(135), [0; 512]);
    assert_eq!(disk.sector(136), pattern(137 * 512)[136 * 512..]);
    disk.assert_lives();
}

#[test]
fn zeros_take_room_unless_they_need_not() {
    let file = image();
    let before = room(&file);
    let mut disk = Disk::new(config(&file));
    assert_eq!(disk.ranges(WRITE_ZEROES, &[(8, 64, 0)]), OK);
    assert_eq!(disk.sector(71), [0; 512]);
    assert_eq!(room(&file), before);
    assert_eq!(disk.ranges(WRITE_ZEROES, &[(72, 64, UNMAP)]), OK);
    assert_eq!(disk.sector(135), [0; 512]);
    assert_eq!(before - room(&file), 64 * 512);
    disk.assert_lives();
}

#[test]
fn flags_that_do_not_exist_are_unsupported() {
    let file = image();
    let before = room(&file);
    let mut disk = Disk::new(config(&file));
    for flags in [UNMAP, 2, 1 << 31, u32::MAX] {
        assert_eq!(
            disk.ranges(DISCARD, &[(0, 8, flags)]),
            UNSUPPORTED,
            "{flags}"
        );
    }
    for flags in [2, 3, 1 << 31, u32::MAX] {
        let status = disk.ranges(WRITE_ZEROES, &[(0, 8, flags)]);
        assert_eq!(status, UNSUPPORTED, "{flags}");
    }
    assert_eq!(room(&file), before);
    disk.assert_lives();
}

#[test]
fn ranges_outside_the_disk_change_nothing() {
    let file = image();
    let (before, length) = (room(&file), file.metadata().unwrap().len());
    let mut disk = Disk::new(config(&file));
    let bad = [
        (0, 0, 0),
        (SECTORS, 1, 0),
        (SECTORS - 1, 2, 0),
        (0, SECTORS as u32 + 1, 0),
        (0, u32::MAX, 0),
        (u64::MAX, 1, 0),
        (u64::MAX - 7, 8, 0),
    ];
    for range in bad {
        assert_eq!(disk.ranges(DISCARD, &[range]), IO_ERROR, "{range:?}");
        assert_eq!(disk.ranges(WRITE_ZEROES, &[range]), IO_ERROR, "{range:?}");
        // Not even the good one beside it.
        assert_eq!(disk.ranges(DISCARD, &[(8, 8, 0), range]), IO_ERROR);
    }
    assert_eq!(room(&file), before);
    assert_eq!(file.metadata().unwrap().len(), length);
    disk.assert_lives();
}

#[test]
fn ranges_are_whole_and_few() {
    let mut disk = Disk::new(config(&image()));
    assert_eq!(disk.ranges(DISCARD, &[(8, 1, 0); 16]), OK);
    assert_eq!(disk.ranges(DISCARD, &[(8, 1, 0); 17]), IO_ERROR);
    assert_eq!(disk.ranges(WRITE_ZEROES, &[(8, 1, 0); 2]), IO_ERROR);
    for bytes in [1, 15, 17] {
        assert_eq!(disk.request(DISCARD, 0, bytes), IO_ERROR, "{bytes}");
    }
    disk.assert_lives();
}

#[test]
fn a_file_without_holes_offers_none() {
    let file = image();
    // Opened for reading, it takes no hole: as on a file system that has none.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let mut disk = Disk::new(config(&File::open(path).unwrap()));
    let offered = disk.driver.offered_features();
    for bit in [blk::VIRTIO_BLK_F_DISCARD, blk::VIRTIO_BLK_F_WRITE_ZEROES] {
        assert_eq!(offered & 1 << bit, 0);
    }
    assert_eq!(disk.ranges(DISCARD, &[(8, 8, 0)]), UNSUPPORTED);
    assert_eq!(disk.ranges(WRITE_ZEROES, &[(8, 8, 0)]), UNSUPPORTED);
    disk.assert_lives();
}
