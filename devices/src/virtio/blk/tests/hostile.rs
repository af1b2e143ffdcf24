//! Requests that no driver of good will sends.

use std::io::Write;

use super::*;
use crate::virtio::fake::HOLE;

#[test]
fn sectors_beyond_the_end_are_refused_and_the_file_stays_as_long() {
    let file = image();
    let length = file.metadata().unwrap().len();
    let mut disk = Disk::new(config(&file));
    let wraps = u64::MAX / 512;
    for sector in [
        SECTORS,
        SECTORS + 1,
        wraps,
        wraps + 1,
        u64::MAX - 1,
        u64::MAX,
    ] {
        for kind in [IN, OUT] {
            assert_eq!(
                disk.request(kind, sector, SECTOR),
                IO_ERROR,
                "{kind} {sector}"
            );
        }
    }
    // The last sector is there, and what begins in it and leaves the disk is not.
    for kind in [IN, OUT] {
        assert_eq!(disk.request(kind, SECTORS - 1, 2 * SECTOR), IO_ERROR);
        assert_eq!(disk.request(kind, SECTORS - 1, SECTOR), OK);
    }
    assert_eq!(file.metadata().unwrap().len(), length);
    disk.assert_lives();
}

#[test]
fn broken_sectors_are_refused() {
    let mut disk = Disk::new(config(&image()));
    for bytes in [1, 511, 513, 4095] {
        for kind in [IN, OUT] {
            assert_eq!(disk.request(kind, 0, bytes), IO_ERROR, "{kind} {bytes}");
        }
    }
    disk.assert_lives();
}

#[test]
fn a_refused_read_claims_nothing() {
    let mut disk = Disk::new(config(&image()));
    disk.driver.write(disk.data, &[9; 512]);
    disk.post(0, IN, SECTORS, SECTOR);
    assert_eq!(disk.outcome(0), (IO_ERROR, 0));
    assert_eq!(disk.driver.read(disk.data, 512), [9; 512]);
}

#[test]
fn a_request_without_data_is_none_or_all() {
    let mut disk = Disk::new(config(&image()));
    assert_eq!(disk.request(IN, 0, 0), OK);
    assert_eq!(disk.request(OUT, 0, 0), OK);
    assert_eq!(disk.request(DISCARD, 0, 0), IO_ERROR);
    assert_eq!(disk.request(WRITE_ZEROES, 0, 0), IO_ERROR);
    disk.assert_lives();
}

#[test]
fn types_that_do_not_exist_are_unsupported() {
    let mut disk = Disk::new(config(&image()));
    // SCSI among them, secure erase, and those of zoned disks.
    let others = (0..64).chain([1 << 31, u32::MAX]);
    for kind in
        others.filter(|kind| ![IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES].contains(kind))
    {
        assert_eq!(disk.request(kind, 0, SECTOR), UNSUPPORTED, "{kind}");
    }
    disk.assert_lives();
}

#[test]
fn a_serial_without_room_is_refused() {
    let mut disk = Disk::new(config(&image()));
    for bytes in [0, 1, 19] {
        assert_eq!(disk.request(GET_ID, 0, bytes), IO_ERROR, "{bytes}");
    }
    disk.assert_lives();
}

#[test]
fn room_that_a_request_does_not_need_is_left_alone() {
    let mut disk = Disk::new(config(&image()));
    disk.driver.write(disk.data, &[9; 512]);
    for (kind, expected) in [(FLUSH, OK), (99, UNSUPPORTED)] {
        disk.set_header(kind, 0);
        let (header, status) = ((disk.header, 16), (disk.status, 1));
        disk.driver
            .submit(0, &[header], &[(disk.data, 512), status]);
        assert_eq!(disk.outcome(0), (expected, 0));
        assert_eq!(disk.driver.read(disk.data, 512), [9; 512]);
    }
}

/// What cannot be answered stops the device until it is reset.
fn stops(readable: impl Fn(&Disk) -> Vec<(u64, u32)>, writable: impl Fn(&Disk) -> Vec<(u64, u32)>) {
    let mut disk = Disk::new(config(&image()));
    disk.set_header(IN, 0);
    let (readable, writable) = (readable(&disk), writable(&disk));
    disk.driver.submit(0, &readable, &writable);
    disk.driver.faulted();
    assert_eq!(disk.driver.read(disk.status, 1), [UNTOUCHED]);
    disk.driver.reset();
    disk.driver.bring_up();
    disk.assert_lives();
}

#[test]
fn a_request_without_status_stops_the_device() {
    stops(|disk| vec![(disk.header, 16)], |_| Vec::new());
    stops(
        |disk| vec![(disk.header, 16), (disk.data, 512)],
        |_| Vec::new(),
    );
}

#[test]
fn a_request_without_header_stops_the_device() {
    stops(
        |_| Vec::new(),
        |disk| vec![(disk.data, 512), (disk.status, 1)],
    );
    stops(
        |disk| vec![(disk.header, 15)],
        |disk| vec![(disk.status, 1)],
    );
}

#[test]
fn data_where_the_disk_does_not_reach_is_refused() {
    let file = image();
    let before = contents(&file);
    let mut disk = Disk::new(config(&file));
    for outside in [HOLE, HOLE - 256, u64::MAX - 511] {
        for kind in [IN, OUT, GET_ID, DISCARD, WRITE_ZEROES, FLUSH, 99] {
            disk.set_header(kind, 0);
            let (header, status) = ((disk.header, 16), (disk.status, 1));
            let data = [(disk.data, 512), (outside, 512)];
            match kind {
                IN | GET_ID => {
                    let writable = [&data[..], &[status]].concat();
                    disk.driver.submit(0, &[header], &writable)
                }
                _ => {
                    let readable = [&[header][..], &data].concat();
                    disk.driver.submit(0, &readable, &[status])
                }
            };
            assert_eq!(disk.outcome(0).0, IO_ERROR, "{kind} {outside:#x}");
        }
    }
    assert!(contents(&file) == before, "none of it was written");
    disk.assert_lives();
}

#[test]
fn a_request_whose_ends_are_where_the_disk_does_not_reach_stops_it() {
    stops(|_| vec![(HOLE, 16)], |disk| vec![(disk.status, 1)]);
    stops(|disk| vec![(disk.header, 16)], |_| vec![(HOLE, 1)]);
    stops(
        |disk| vec![(disk.header, 16)],
        |disk| vec![(disk.data, 512), (HOLE, 1)],
    );
}

#[test]
fn a_request_of_many_segments_is_served_whole() {
    let mut disk = Disk::new(config(&image()));
    disk.set_header(IN, 0);
    let mut writable: Vec<_> = (0..128).map(|n| (disk.data + n * 512, SECTOR)).collect();
    writable.push((disk.status, 1));
    disk.driver.submit(0, &[(disk.header, 16)], &writable);
    assert_eq!(disk.outcome(0), (OK, 65537));
    assert_eq!(disk.driver.read(disk.data, 65536), pattern(65536));
}

#[test]
fn a_disk_that_is_read_only_changes_for_nobody() {
    let file = image();
    let before = contents(&file);
    let open = |memory: &crate::Memory| {
        let config = Config {
            read_only: true,
            ..config(&file)
        };
        config.open(memory).unwrap()
    };
    // A driver that takes the feature, and one that does not.
    for mask in [u64::MAX, !(1 << blk::VIRTIO_BLK_F_RO)] {
        let mut driver = Driver::attach(open);
        assert_ne!(driver.offered_features() & 1 << blk::VIRTIO_BLK_F_RO, 0);
        driver.bring_up_with(mask);
        let mut disk = Disk::of(driver);
        disk.driver.write(disk.data, &[0; 16]);
        disk.driver.write(disk.data + 8, &[8]);
        for kind in [OUT, DISCARD, WRITE_ZEROES] {
            assert_eq!(disk.request(kind, 0, SECTOR), IO_ERROR);
            assert_eq!(disk.request(kind, 0, 16), IO_ERROR);
        }
        assert_eq!(disk.request(FLUSH, 0, 0), OK);
        disk.assert_lives();
    }
    assert_eq!(contents(&file), before);
}

#[test]
fn a_file_that_is_no_disk_is_refused() {
    let short = {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 511]).unwrap();
        config(&file)
    };
    let long_serial = Config {
        serial: "x".repeat(21),
        ..config(&image())
    };
    let memory = Driver::attach(|memory| config(&image()).open(memory).unwrap())
        .memory
        .clone();
    for (config, why) in [(short, "not one sector"), (long_serial, "1 to 20 ASCII")] {
        let error = config.open(&memory).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
