//! Disks against drivers that behave, drivers that do not, and hosts that fail.

mod host;
mod hostile;
mod ranges;
mod throttle;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use virtio_bindings::virtio_blk as blk;

use super::disk::Status;
use super::{Config, QUEUES_MAX};
use crate::virtio::fake::Driver;

/// Sectors of the disk.
const SECTORS: u64 = 256;
const SECTOR: u32 = 512;

const IN: u32 = blk::VIRTIO_BLK_T_IN;
const OUT: u32 = blk::VIRTIO_BLK_T_OUT;
const FLUSH: u32 = blk::VIRTIO_BLK_T_FLUSH;
const GET_ID: u32 = blk::VIRTIO_BLK_T_GET_ID;
const DISCARD: u32 = blk::VIRTIO_BLK_T_DISCARD;
const WRITE_ZEROES: u32 = blk::VIRTIO_BLK_T_WRITE_ZEROES;

/// What a status byte is before the device writes it.
const UNTOUCHED: u8 = 0xee;

/// Bytes that tell each sector and each place in it from the others.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|n| (n % 251) as u8 ^ (n / 512) as u8)
        .collect()
}

/// A file of [`SECTORS`] and a few bytes more, which belong to no sector.
fn image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    let bytes = (SECTORS * u64::from(SECTOR)) as usize;
    file.write_all(&pattern(bytes)).unwrap();
    file.write_all(b"the rest").unwrap();
    file
}

fn config(file: &File) -> Config {
    Config {
        name: "test".into(),
        file: file.try_clone().unwrap(),
        window: None,
        serial: "volume0".into(),
        read_only: false,
        vcpus: 1,
        counters: Arc::default(),
        rate: None,
    }
}

/// A driver with a page for header and status, and 16 for data.
struct Disk {
    driver: Driver,
    header: u64,
    status: u64,
    data: u64,
}

impl Disk {
    fn new(config: Config) -> Self {
        Self::of(Driver::start(|memory| config.open(memory).unwrap()))
    }

    fn of(mut driver: Driver) -> Self {
        let header = driver.page();
        Self {
            header,
            status: header + 16,
            data: driver.pages(16),
            driver,
        }
    }

    fn set_header(&mut self, kind: u32, sector: u64) {
        self.driver.write(self.header, &kind.to_le_bytes());
        self.driver.write(self.header + 4, &[0; 4]);
        self.driver.write(self.header + 8, &sector.to_le_bytes());
        self.driver.write(self.status, &[UNTOUCHED]);
    }

    /// Posts a request whose data, if any, is `bytes` of the data pages.
    fn post(&mut self, queue: usize, kind: u32, sector: u64, bytes: u32) {
        self.set_header(kind, sector);
        let data = (self.data, bytes);
        let (header, status) = ((self.header, 16), (self.status, 1));
        match kind {
            IN | GET_ID => self.driver.submit(queue, &[header], &[data, status]),
            _ => self.driver.submit(queue, &[header, data], &[status]),
        };
    }

    /// What came of the request posted last, and the bytes that the device says it wrote.
    fn outcome(&mut self, queue: usize) -> (u8, u32) {
        let used = self.driver.completed(queue);
        (self.driver.read(self.status, 1)[0], used.written_bytes)
    }

    fn request(&mut self, kind: u32, sector: u64, bytes: u32) -> u8 {
        self.post(0, kind, sector, bytes);
        self.outcome(0).0
    }

    /// The device serves on: the first sector is what it was.
    fn assert_lives(&mut self) {
        self.driver.write(self.data, &[0; 512]);
        assert_eq!(self.request(IN, 0, SECTOR), OK);
        assert_eq!(self.driver.read(self.data, 512), pattern(512));
    }
}

const OK: u8 = Status::Ok as u8;
const IO_ERROR: u8 = Status::IoError as u8;
const UNSUPPORTED: u8 = Status::Unsupported as u8;

fn config_space(driver: &Driver, offset: u64, bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    driver.mmio.read(0x100 + offset, &mut data);
    data
}

#[test]
fn what_is_written_is_read_again_and_in_the_file() {
    let file = image();
    let config = config(&file);
    let counters = config.counters.clone();
    let mut disk = Disk::new(config);
    let text = pattern(8192).split_off(100);
    disk.driver.write(disk.data, &text[..4096]);
    assert_eq!(disk.request(OUT, 9, 4096), OK);
    disk.driver.write(disk.data, &[0; 4096]);
    disk.post(0, IN, 9, 4096);
    assert_eq!(disk.outcome(0), (OK, 4097));
    assert_eq!(disk.driver.read(disk.data, 4096), text[..4096]);
    let mut found = vec![0; 4096];
    file.read_exact_at(&mut found, 9 * 512).unwrap();
    assert_eq!(found, text[..4096]);
    let counted = (
        counters.read_bytes(),
        counters.written_bytes(),
        counters.flushes(),
    );
    assert_eq!(counted, (4096, 4096, 0));
}

#[test]
fn a_disk_has_whole_sectors_and_tells_its_limits() {
    let disk = Disk::new(Config {
        vcpus: 64,
        ..config(&image())
    });
    let number = |offset, bytes: usize| {
        let mut padded = config_space(&disk.driver, offset, bytes);
        padded.resize(8, 0);
        u64::from_le_bytes(padded.try_into().unwrap())
    };
    // Offsets of §5.2.4.
    let fields = [
        (0, 8, SECTORS),
        (12, 4, 254),
        (20, 4, 512),
        (24, 1, 3),
        (34, 2, QUEUES_MAX.into()),
        (36, 4, 2 << 20),
        (40, 4, 16),
        (44, 4, 8),
        (48, 4, 128 << 10),
        (52, 4, 1),
        (56, 1, 1),
        (60, 8, 0),
    ];
    for (offset, bytes, expected) in fields {
        assert_eq!(number(offset, bytes), expected, "at {offset}");
    }
}

#[test]
fn the_serial_is_what_the_guest_finds_it_by() {
    let mut disk = Disk::new(config(&image()));
    disk.post(0, GET_ID, 0, 20);
    assert_eq!(disk.outcome(0), (OK, 21));
    assert_eq!(
        disk.driver.read(disk.data, 20),
        *b"volume0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    );
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let mut disk = Disk::new(config(&image()));
    let (header, data) = (disk.header, disk.data);
    disk.set_header(IN, 1);
    // The status is the last byte of the data's last buffer.
    let cut = [(data, 1), (data + 1, 700), (data + 701, 324)];
    disk.driver
        .submit(0, &[(header, 3), (header + 3, 13)], &cut);
    assert_eq!(disk.driver.completed(0).written_bytes, 1025);
    assert_eq!(disk.driver.read(data, 1024), pattern(2048)[512..1536]);
    assert_eq!(disk.driver.read(data + 1024, 1), [OK]);

    disk.set_header(OUT, 3);
    disk.driver.write(data, &[7; 512]);
    let whole = data - 4096;
    assert_eq!(whole, header);
    disk.driver.submit(
        0,
        &[(header, 16), (data, 5), (data + 5, 507)],
        &[(disk.status, 1)],
    );
    assert_eq!(disk.outcome(0), (OK, 1));
    assert_eq!(disk.request(IN, 3, SECTOR), OK);
    assert_eq!(disk.driver.read(data, 512), [7; 512]);
}

#[test]
fn each_queue_serves() {
    let mut disk = Disk::new(Config {
        vcpus: 2,
        ..config(&image())
    });
    for queue in [1, 0, 1] {
        disk.post(queue, IN, 0, SECTOR);
        assert_eq!(disk.outcome(queue), (OK, 513));
    }
}
