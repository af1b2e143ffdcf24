//! Tests of the device, through its registers and rings.

use std::fs;

use tempfile::TempDir;
use zerocopy::{FromBytes, FromZeros};

use super::super::wire::{self, AttrOut, EntryOut, GetattrIn, InHeader, InitIn, ReadIn, opcode};
use super::super::{Config, Content, Share};
use super::*;
use crate::virtio::fake::{Driver, HOLE};

mod writing;

const HIPRIO: usize = 0;
const FIRST: usize = 1;
const HEADER: usize = size_of::<InHeader>();

fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    folder
}

fn config(folder: &TempDir, vcpus: u16) -> Config {
    Config {
        tag: "store".into(),
        root: folder.path().to_path_buf(),
        content: Content::Immutable { filter: None },
        vcpus,
        window: None,
    }
}

fn memory() -> Memory {
    let ranges = [(vm_memory::GuestAddress(0), 4096)];
    Arc::new(vm_memory::GuestMemoryMmap::from_ranges(&ranges).unwrap())
}

fn share(config: &Config) -> Share {
    config.open(&memory(), &Arc::default()).unwrap()
}

fn start(folder: &TempDir, vcpus: u16) -> (Driver, Arc<super::super::Counters>) {
    let mut counters = None;
    let driver = Driver::start(|memory| {
        let share = config(folder, vcpus).open(memory, &Arc::default()).unwrap();
        counters = Some(share.counters);
        share.device
    });
    (driver, counters.unwrap())
}

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut header = InHeader::new_zeroed();
    header.len = (HEADER + body.len()) as u32;
    (header.opcode, header.nodeid, header.unique) = (opcode, node, 11);
    [header.as_bytes(), body].concat()
}

/// Sends a request with a page for its reply; the reply's error and body.
fn call(driver: &mut Driver, queue: usize, opcode: u32, node: u64, body: &[u8]) -> (i32, Vec<u8>) {
    let request = request(opcode, node, body);
    let (input, output) = (driver.page(), driver.page());
    driver.write(input, &request);
    driver.submit(queue, &[(input, request.len() as u32)], &[(output, 4096)]);
    let written = driver.completed(queue).written_bytes as usize;
    let reply = driver.read(output, written);
    let (header, body) = OutHeader::read_from_prefix(&reply).unwrap();
    assert_eq!((header.len as usize, header.unique), (written, 11));
    (header.error, body.to_vec())
}

fn init(driver: &mut Driver) {
    let init = InitIn {
        major: 7,
        minor: 41,
        max_readahead: 0,
        flags: u32::MAX,
    };
    let (error, body) = call(driver, FIRST, opcode::INIT, 0, init.as_bytes());
    assert_eq!((error, body.len()), (0, size_of::<wire::InitOut>()));
}

fn lookup(driver: &mut Driver, queue: usize) -> u64 {
    let (error, body) = call(driver, queue, opcode::LOOKUP, 1, b"file\0");
    assert_eq!(error, 0);
    EntryOut::read_from_bytes(&body).unwrap().nodeid
}

fn getattr(driver: &mut Driver, node: u64) -> i32 {
    let body = GetattrIn::new_zeroed();
    let (error, body) = call(driver, FIRST, opcode::GETATTR, node, body.as_bytes());
    assert_eq!(AttrOut::read_from_bytes(&body).is_ok(), error == 0);
    error
}

fn read_in(size: u32) -> ReadIn {
    let mut read = ReadIn::new_zeroed();
    read.size = size;
    read
}

#[test]
fn a_driver_reads_tag_and_queues() {
    let folder = sample();
    for (vcpus, queues) in [(0, 1), (1, 1), (3, 3), (4, 4), (64, 4)] {
        let facts = share(&config(&folder, vcpus)).device.facts;
        assert_eq!(facts.id, 26);
        assert_eq!(
            facts.config[..36],
            *b"store\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(facts.config[36..], [queues, 0, 0, 0]);
        assert_eq!(facts.queue_sizes, vec![1024; usize::from(queues) + 1]);
    }
}

#[test]
fn each_queue_has_one_worker_and_the_first_the_urgent_ones() {
    let folder = sample();
    let parts = |vcpus| {
        let device = share(&config(&folder, vcpus)).device;
        let queues: Vec<_> = device.parts.into_iter().map(|part| part.queues).collect();
        queues
    };
    assert_eq!(parts(2), [0..2, 2..3]);
    assert_eq!(parts(3), [0..2, 2..3, 3..4]);
}

#[test]
fn what_cannot_be_shared_is_said() {
    let folder = sample();
    let error = |edit: &dyn Fn(&mut Config)| {
        let mut config = config(&folder, 1);
        edit(&mut config);
        format!(
            "{:#}",
            config.open(&memory(), &Arc::default()).err().unwrap()
        )
    };
    let missing = error(&|config| config.root = "/no/such/folder".into());
    assert_eq!(
        missing,
        "cannot share /no/such/folder: No such file or directory (os error 2)"
    );
    let file = error(&|config| config.root.push("file"));
    assert!(file.ends_with("/file: Not a directory (os error 20)"));
    for tag in [String::new(), "t".repeat(37), "a\0b".into()] {
        let tagged = error(&|config| config.tag.clone_from(&tag));
        assert!(tagged.contains("a tag has 1 to 36 bytes"));
    }
}

#[test]
fn a_file_is_read_through_every_queue() {
    let folder = sample();
    let (mut driver, counters) = start(&folder, 3);
    init(&mut driver);
    for queue in [HIPRIO, 1, 2, 3] {
        let node = lookup(&mut driver, queue);
        let (error, body) = call(
            &mut driver,
            queue,
            opcode::READ,
            node,
            read_in(100).as_bytes(),
        );
        assert_eq!((error, &*body), (0, &b"content"[..]));
    }
    assert_eq!(
        counters.snapshot(),
        [("LOOKUP", 4), ("READ", 4), ("INIT", 1)].into()
    );
}

#[test]
fn a_megabyte_goes_straight_into_scattered_pages() {
    let folder = sample();
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(folder.path().join("file"), &content).unwrap();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let node = lookup(&mut driver, FIRST);
    let request = request(opcode::READ, node, read_in(1 << 20).as_bytes());
    let (input, header, pages) = (driver.page(), driver.page(), driver.pages(513));
    driver.write(input, &request);
    // Every other page, so that none follows the one before; the rest must stay as it is.
    let places: Vec<_> = (0..256).map(|n| (pages + n * 8192, 4096)).collect();
    let writable = [&[(header, 16)][..], &places].concat();
    driver.submit(FIRST, &[(input, request.len() as u32)], &writable);
    let written = driver.completed(FIRST).written_bytes as usize;
    assert_eq!(written, 16 + (1 << 20));
    for (page, expected) in places.iter().zip(content.chunks(4096)) {
        assert!(driver.read(page.0, 4096) == expected);
        assert!(driver.read(page.0 + 4096, 4096) == [0; 4096]);
    }
}

#[test]
fn a_forget_needs_no_room_and_is_not_answered() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let node = lookup(&mut driver, FIRST);
    assert_eq!(getattr(&mut driver, node), 0);
    let request = request(opcode::FORGET, node, &1u64.to_le_bytes());
    let input = driver.page();
    driver.write(input, &request);
    driver.submit(HIPRIO, &[(input, request.len() as u32)], &[]);
    assert_eq!(driver.completed(HIPRIO).written_bytes, 0);
    assert_eq!(getattr(&mut driver, node), -libc::ESTALE);
}

#[test]
fn a_reset_ends_the_session_and_the_next_one_works() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 2);
    for _ in 0..3 {
        init(&mut driver);
        let node = lookup(&mut driver, 2);
        assert_eq!(getattr(&mut driver, node), 0);
        driver.reset();
        driver.bring_up();
        assert_eq!(getattr(&mut driver, node), -libc::EIO);
        init(&mut driver);
        assert_eq!(getattr(&mut driver, node), -libc::ESTALE);
    }
}

#[test]
fn a_chain_of_any_shape_comes_back() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let request = request(opcode::LOOKUP, 1, b"file\0");
    let (input, output) = (driver.page(), driver.page());
    driver.write(input, &request);
    let whole = request.len() as u32;
    let error = |driver: &Driver| {
        OutHeader::read_from_prefix(&driver.read(output, 16))
            .unwrap()
            .0
            .error
    };
    for (readable, writable, expected) in [
        // No room for a header: nothing can be said.
        (&[(input, whole)][..], &[][..], 0),
        (&[(input, whole)], &[(output, 15)], 0),
        // Room for the header alone: the error.
        (&[(input, whole)], &[(output, 16)], 16),
        // No request, or a piece of one.
        (&[], &[(output, 4096)], 16),
        (&[(input, 39)], &[(output, 4096)], 16),
        (&[(input, whole - 1)], &[(output, 4096)], 16),
        // Buffers of single bytes.
        (
            &[(input, 1), (input + 1, whole - 1)],
            &[(output, 1), (output + 1, 4095)],
            144,
        ),
    ] {
        driver.write(output, &[0; 16]);
        driver.submit(FIRST, readable, writable);
        assert_eq!(driver.completed(FIRST).written_bytes, expected);
        let expected = if expected == 16 { -libc::EINVAL } else { 0 };
        assert_eq!(error(&driver), expected);
    }
    assert_eq!(driver.status() & 0x40, 0, "the device needs no reset");
}

/// The error of what a request comes to, given where its parts are.
fn error_of(driver: &mut Driver, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> i32 {
    driver.submit(FIRST, readable, writable);
    assert_eq!(driver.completed(FIRST).written_bytes, 16);
    let reply = driver.read(writable[0].0, 16);
    let (header, _) = OutHeader::read_from_prefix(&reply).unwrap();
    assert_eq!((header.len, header.unique), (16, 11));
    header.error
}

#[test]
fn requests_and_replies_where_the_device_does_not_reach_are_refused() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let node = lookup(&mut driver, FIRST);
    let (input, output) = (driver.page(), driver.page());
    for (opcode, body) in [
        (opcode::LOOKUP, &b"file\0"[..]),
        (opcode::READ, read_in(4096).as_bytes()),
        (opcode::READDIRPLUS, read_in(4096).as_bytes()),
        (opcode::GETATTR, GetattrIn::new_zeroed().as_bytes()),
        (opcode::WRITE, &[0; 40]),
    ] {
        let request = request(opcode, node, body);
        driver.write(input, &request);
        let (head, whole) = (HEADER as u32, request.len() as u32);
        for outside in [HOLE, HOLE - 8, u64::MAX - 4095] {
            let in_part = [(input, head), (outside, 4096)];
            let beside = [(input, whole), (outside, 4096)];
            for readable in [in_part, beside] {
                let error = error_of(&mut driver, &readable, &[(output, 4096)]);
                assert_eq!(error, -libc::EFAULT, "{opcode} {outside:#x}");
            }
            let writable = [(output, 16), (outside, 4096)];
            let error = error_of(&mut driver, &[(input, whole)], &writable);
            assert_eq!(error, -libc::EFAULT, "{opcode} {outside:#x}");
        }
    }
    assert_eq!(getattr(&mut driver, node), 0);
}

#[test]
fn headers_where_the_device_does_not_reach_stop_it() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    let page = driver.page();
    for (readable, writable) in [(HOLE, page), (page, HOLE)] {
        driver.submit(FIRST, &[(readable, 64)], &[(writable, 64)]);
        driver.faulted();
        driver.reset();
        driver.bring_up();
        init(&mut driver);
    }
    // Nobody waits for an answer to these.
    let forget = request(opcode::FORGET, 1, &[]);
    driver.write(page, &forget);
    driver.submit(HIPRIO, &[(page, forget.len() as u32), (HOLE, 8)], &[]);
    assert_eq!(driver.completed(HIPRIO).written_bytes, 0);
}

#[test]
fn a_write_of_a_megabyte_is_refused() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let node = lookup(&mut driver, FIRST);
    let mut request = request(opcode::WRITE, node, &[0; 40]);
    let total = request.len() as u32 + (1 << 20);
    request[..4].copy_from_slice(&total.to_le_bytes());
    let (input, data, output) = (driver.page(), driver.pages(256), driver.page());
    driver.write(input, &request);
    let readable = [(input, request.len() as u32), (data, 1 << 20)];
    driver.submit(FIRST, &readable, &[(output, 4096)]);
    assert_eq!(driver.completed(FIRST).written_bytes, 16);
    let (header, _) = OutHeader::read_from_prefix(&driver.read(output, 16)).unwrap();
    assert_eq!(header.error, -libc::EROFS);
}

#[test]
fn a_thousand_requests_at_once_are_all_served() {
    let folder = sample();
    let (mut driver, _) = start(&folder, 1);
    init(&mut driver);
    let request = request(opcode::LOOKUP, 1, b"file\0");
    let (input, output) = (driver.page(), driver.page());
    driver.write(input, &request);
    for round in 0..4 {
        for _ in 0..300 {
            driver.submit(FIRST, &[(input, request.len() as u32)], &[(output, 144)]);
        }
        for _ in 0..300 {
            assert_eq!(driver.completed(FIRST).written_bytes, 144, "{round}");
        }
    }
}
