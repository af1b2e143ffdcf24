//! Tests of a writable share, through the device's rings.

use super::super::super::Owners;
use super::super::super::budget::Budget;
use super::super::super::wire::{CreateIn, OpenOut, WriteIn, WriteOut};
use super::*;

fn start_writable(folder: &TempDir, budget: Budget) -> Driver {
    let config = Config {
        content: Content::Writable {
            timeout: Content::CHANGING_TIMEOUT,
            owners: Owners::Own {
                host: (0, 0),
                guest: (0, 0),
            },
            closed: None,
        },
        ..config(folder, 1)
    };
    let budget = Arc::new(budget);
    let mut driver = Driver::start(|memory| config.open(memory, &budget).unwrap().device);
    init(&mut driver);
    driver
}

/// CREATE; its error, and node and handle.
fn create(driver: &mut Driver, name: &str) -> (i32, Option<(u64, u64)>) {
    let mut create = CreateIn::new_zeroed();
    (create.flags, create.mode) = (libc::O_RDWR.cast_unsigned(), 0o644);
    let body = [create.as_bytes(), name.as_bytes(), b"\0"].concat();
    let (error, body) = call(driver, FIRST, opcode::CREATE, 1, &body);
    let made = EntryOut::read_from_prefix(&body).ok().map(|(entry, open)| {
        let open = OpenOut::read_from_bytes(open).unwrap();
        (entry.nodeid, open.fh)
    });
    (error, made)
}

#[test]
fn a_megabyte_is_written_straight_from_scattered_pages() {
    let folder = sample();
    let mut driver = start_writable(&folder, Budget::default());
    let (error, made) = create(&mut driver, "new");
    let (node, fh) = made.unwrap();
    assert_eq!(error, 0);
    let mut write = WriteIn::new_zeroed();
    (write.fh, write.offset, write.size) = (fh, 5, 1 << 20);
    let mut head = request(opcode::WRITE, node, write.as_bytes());
    let total = head.len() as u32 + (1 << 20);
    head[..4].copy_from_slice(&total.to_le_bytes());
    let content: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (input, output, pages) = (driver.page(), driver.page(), driver.pages(513));
    driver.write(input, &head);
    // Every other page, so that none follows the one before.
    let places: Vec<_> = (0..256).map(|n| (pages + n * 8192, 4096)).collect();
    for (page, bytes) in places.iter().zip(content.chunks(4096)) {
        driver.write(page.0, bytes);
    }
    let readable = [&[(input, head.len() as u32)][..], &places].concat();
    driver.submit(FIRST, &readable, &[(output, 4096)]);
    let written = driver.completed(FIRST).written_bytes as usize;
    let reply = driver.read(output, written);
    let (header, body) = OutHeader::read_from_prefix(&reply).unwrap();
    assert_eq!(header.error, 0);
    assert_eq!(WriteOut::read_from_bytes(body).unwrap().size, 1 << 20);
    let file = fs::read(folder.path().join("new")).unwrap();
    assert_eq!(file.len(), 5 + (1 << 20));
    assert!(file[5..] == content);
}

#[test]
fn data_where_the_device_does_not_reach_are_not_written() {
    let folder = sample();
    let mut driver = start_writable(&folder, Budget::default());
    let (node, fh) = create(&mut driver, "new").1.unwrap();
    let mut write = WriteIn::new_zeroed();
    (write.fh, write.size) = (fh, 8192);
    let mut head = request(opcode::WRITE, node, write.as_bytes());
    let total = head.len() as u32 + 8192;
    head[..4].copy_from_slice(&total.to_le_bytes());
    let (input, output, data) = (driver.page(), driver.page(), driver.page());
    driver.write(input, &head);
    let readable = [(input, head.len() as u32), (data, 4096), (HOLE, 4096)];
    let error = error_of(&mut driver, &readable, &[(output, 4096)]);
    assert_eq!(error, -libc::EFAULT);
    assert_eq!(fs::read(folder.path().join("new")).unwrap(), b"");
    let readable = [(input, head.len() as u32), (data, 4096), (data, 4096)];
    driver.submit(FIRST, &readable, &[(output, 4096)]);
    assert_eq!(driver.completed(FIRST).written_bytes, 24);
    assert_eq!(fs::read(folder.path().join("new")).unwrap(), [0; 8192]);
}

#[test]
fn a_guest_without_budget_makes_nothing() {
    let folder = sample();
    let long = "n".repeat(30);
    let nodes = (Budget::new(1, 99, 9), "two", libc::ENFILE);
    let names = (Budget::new(9, 29, 9), &*long, libc::ENFILE);
    let handles = (Budget::new(9, 99, 1), "two", libc::EMFILE);
    for (budget, name, error) in [nodes, names, handles] {
        let mut driver = start_writable(&folder, budget);
        assert_eq!(create(&mut driver, "one").0, 0);
        assert_eq!(create(&mut driver, name), (-error, None));
        fs::remove_file(folder.path().join("one")).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}

#[test]
fn a_guest_without_a_node_left_makes_no_directory() {
    let folder = sample();
    let mut driver = start_writable(&folder, Budget::new(0, 0, 9));
    let mkdir = [&[0; 8][..], b"new\0"].concat();
    let (error, _) = call(&mut driver, FIRST, opcode::MKDIR, 1, &mkdir);
    assert_eq!(error, -libc::ENFILE);
    assert!(!folder.path().join("new").exists());
}
