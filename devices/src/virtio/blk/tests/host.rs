//! What the host does to a disk: the order of a flush, and failures.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::super::image::Image;
use super::super::plan9::Plan9;
use super::super::{Medium, Traits, assemble};
use super::*;
use crate::virtio::Buffers;

/// Keeps nothing. An operation that waits says its name, goes on when it may, and ends as it is told.
struct Script {
    waits: &'static [&'static str],
    said: Sender<&'static str>,
    answers: Mutex<Receiver<io::Result<()>>>,
}

impl Script {
    fn play(&self, name: &'static str) -> io::Result<()> {
        if !self.waits.contains(&name) {
            return Ok(());
        }
        self.said.send(name).unwrap();
        self.answers.lock().unwrap().recv().unwrap()
    }
}

impl Medium for Script {
    fn read(&self, _: u64, _: usize, _: &mut Buffers) -> io::Result<()> {
        self.play("read")
    }

    fn write(&self, _: u64, _: usize, _: &mut Buffers) -> io::Result<()> {
        self.play("write")
    }

    fn flush(&self) -> io::Result<()> {
        self.play("flush")
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.play("discard")
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        self.play("zero")
    }
}

/// A disk, what its host is asked for, and the host's answers.
type Scripted = (Disk, Receiver<&'static str>, Sender<io::Result<()>>);

fn traits(name: &str, queues: u16) -> Traits {
    Traits {
        name: name.into(),
        serial: name.into(),
        bytes: SECTORS * u64::from(SECTOR),
        read_only: false,
        can_discard: true,
        queues,
        counters: Arc::default(),
        rate: None,
    }
}

fn scripted(queues: u16, waits: &'static [&'static str]) -> Scripted {
    let (said, hears) = channel();
    let (answer, answers) = channel();
    let traits = traits("script", queues);
    let medium = Box::new(Script {
        waits,
        said,
        answers: Mutex::new(answers),
    });
    let driver = Driver::start(|memory| assemble(&traits, medium, memory).unwrap());
    (Disk::of(driver), hears, answer)
}

#[test]
fn a_flush_is_answered_after_the_host_has_flushed() {
    let (mut disk, hears, answer) = scripted(1, &["write", "flush"]);
    disk.post(0, OUT, 0, SECTOR);
    assert_eq!(hears.recv(), Ok("write"));
    answer.send(Ok(())).unwrap();
    assert_eq!(disk.outcome(0), (OK, 1));
    disk.post(0, FLUSH, 0, 0);
    assert_eq!(hears.recv(), Ok("flush"));
    // The host is at it, and until it is done the guest waits.
    assert_eq!(disk.driver.used_index(0), 1);
    assert_eq!(disk.driver.read(disk.status, 1), [UNTOUCHED]);
    answer.send(Ok(())).unwrap();
    assert_eq!(disk.outcome(0), (OK, 1));
}

#[test]
fn what_the_host_cannot_do_is_an_error_of_that_request_alone() {
    let (mut disk, hears, answer) = scripted(1, &["read", "write"]);
    let full = || io::Error::from_raw_os_error(libc::ENOSPC);
    for (kind, name) in [(IN, "read"), (OUT, "write")] {
        answer.send(Err(full())).unwrap();
        assert_eq!(disk.request(kind, 0, SECTOR), IO_ERROR);
        answer.send(Ok(())).unwrap();
        assert_eq!(disk.request(kind, 0, SECTOR), OK);
        assert_eq!([hears.recv(), hears.recv()], [Ok(name); 2]);
    }
}

#[test]
fn after_a_flush_that_failed_no_flush_succeeds() {
    let (mut disk, hears, answer) = scripted(1, &["flush"]);
    answer
        .send(Err(io::Error::from_raw_os_error(libc::EIO)))
        .unwrap();
    assert_eq!(disk.request(FLUSH, 0, 0), IO_ERROR);
    assert_eq!(hears.recv(), Ok("flush"));
    assert_eq!(disk.request(FLUSH, 0, 0), IO_ERROR);
    assert!(hears.try_recv().is_err(), "the host was asked again");
    // Not after a reset either: the data stays lost.
    disk.driver.reset();
    disk.driver.bring_up();
    assert_eq!(disk.request(FLUSH, 0, 0), IO_ERROR);
    // Reading and writing go on, as the guest's file system decides.
    assert_eq!(disk.request(IN, 0, SECTOR), OK);
}

#[test]
fn a_file_cut_short_is_an_error_where_it_is_missing() {
    let file = image();
    let mut disk = Disk::new(config(&file));
    file.set_len(1000).unwrap();
    for (sector, bytes) in [(1, SECTOR), (0, 4096), (SECTORS - 1, SECTOR)] {
        assert_eq!(disk.request(IN, sector, bytes), IO_ERROR);
    }
    disk.assert_lives();
    file.set_len(0).unwrap();
    assert_eq!(disk.request(IN, 0, SECTOR), IO_ERROR);
    assert_eq!(disk.request(FLUSH, 0, 0), OK);
}

#[test]
fn a_queue_that_waits_for_the_host_holds_no_other_up() {
    let (mut disk, hears, answer) = scripted(2, &["flush"]);
    disk.post(0, FLUSH, 0, 0);
    assert_eq!(hears.recv(), Ok("flush"));
    // A status of its own, since the first request still has the other.
    disk.status += 8;
    disk.header = disk.driver.page();
    for _ in 0..3 {
        disk.post(1, IN, 0, SECTOR);
        assert_eq!(disk.outcome(1).0, OK);
    }
    assert_eq!(disk.driver.used_index(0), 0);
    answer.send(Ok(())).unwrap();
    assert_eq!(disk.driver.completed(0).written_bytes, 1);
}

#[test]
fn what_is_written_over_9p_is_in_the_file_page_by_page() {
    let file = image();
    let traits = traits("9p", 1);
    let medium = || {
        let image = Image::open(file.try_clone().unwrap(), None).unwrap();
        Box::new(Plan9(image))
    };
    let mut disk = Disk::of(Driver::start(|memory| {
        assemble(&traits, medium(), memory).unwrap()
    }));
    for (sector, bytes) in [(0, 512), (3, 4096), (1, 9 * 512), (7, 5 * 4096)] {
        let mut expected = vec![0; 64 << 10];
        file.read_exact_at(&mut expected, 0).unwrap();
        let at = sector as usize * 512;
        let text: Vec<u8> = pattern(bytes + 77).split_off(77);
        expected[at..at + bytes].copy_from_slice(&text);
        disk.driver.write(disk.data, &text);
        assert_eq!(disk.request(OUT, sector, bytes as u32), OK);
        let mut found = vec![0; 64 << 10];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == expected, "{bytes} bytes at sector {sector}");
    }
}
