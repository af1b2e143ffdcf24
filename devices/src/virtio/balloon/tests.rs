//! What a guest gives back, and what it cannot.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::*;
use crate::virtio::fake::{Driver, HOLE, ISLAND, ISLAND_END, SEAM};

const DEFLATE: usize = 1;

/// Guest memory that holds something everywhere but in the rings.
fn filled() -> Driver {
    let driver = Driver::start(open);
    for page in (PAGES..HOLE).chain(ISLAND..ISLAND_END).step_by(4096) {
        driver.write(page, &[7; 4096]);
    }
    driver
}

/// Where nothing of the driver is.
const PAGES: u64 = 2 << 20;

/// The bytes of a page, if all are the same.
fn page(driver: &Driver, gpa: u64) -> Option<u8> {
    let bytes = driver.read(gpa, 4096);
    bytes
        .iter()
        .all(|byte| *byte == bytes[0])
        .then_some(bytes[0])
}

/// Memory of the fake machine that the host has a page for (Linux'
/// `Documentation/admin-guide/mm/pagemap.rst`).
fn resident_bytes(driver: &Driver) -> u64 {
    const PRESENT: u64 = 1 << 63;
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let mut pages = 0;
    for region in driver.memory.iter() {
        let mut entries = vec![0; region.len() as usize / 4096 * 8];
        let first = region.as_ptr() as u64 / 4096;
        pagemap.read_exact_at(&mut entries, first * 8).unwrap();
        let (entries, _) = entries.as_chunks();
        let present = |entry: &&[u8; 8]| u64::from_ne_bytes(**entry) & PRESENT != 0;
        pages += entries.iter().filter(present).count() as u64;
    }
    pages * 4096
}

#[test]
fn what_is_reported_is_the_hosts_again() {
    let mut driver = filled();
    let before = resident_bytes(&driver);
    let reported = [(PAGES, 2 << 20), (PAGES + (3 << 20), 1 << 20)];
    driver.submit(REPORTING, &[], &reported);
    assert_eq!(driver.completed(REPORTING).written_bytes, 0);
    assert!(before - resident_bytes(&driver) >= 3 << 20);
    assert_eq!(page(&driver, PAGES), Some(0));
    assert_eq!(page(&driver, PAGES + (2 << 20)), Some(7));
    assert_eq!(page(&driver, PAGES + (4 << 20) - 4096), Some(0));
    assert_eq!(page(&driver, PAGES + (4 << 20)), Some(7));
}

#[test]
fn a_range_may_cross_regions() {
    let mut driver = filled();
    driver.submit(REPORTING, &[], &[(SEAM - 8192, 16384)]);
    driver.completed(REPORTING);
    let around = [-12288i64, -8192, 0, 4096, 8192].map(|offset| SEAM.wrapping_add_signed(offset));
    let found = around.map(|gpa| page(&driver, gpa));
    assert_eq!(found, [Some(7), Some(0), Some(0), Some(0), Some(7)]);
}

#[test]
fn a_page_in_part_is_kept() {
    let mut driver = filled();
    driver.submit(
        REPORTING,
        &[],
        &[(PAGES + 1, 8191), (PAGES + 16384, 4095), (PAGES + 32768, 1)],
    );
    driver.completed(REPORTING);
    assert_eq!(page(&driver, PAGES), Some(7));
    assert_eq!(page(&driver, PAGES + 4096), Some(0));
    assert_eq!(page(&driver, PAGES + 8192), Some(7));
    assert_eq!(page(&driver, PAGES + 16384), Some(7));
    assert_eq!(page(&driver, PAGES + 32768), Some(7));
}

/// Posts numbers of pages.
fn numbers(driver: &mut Driver, queue: usize, numbers: &[u32]) {
    let list = driver.pages(2);
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    driver.write(list, &bytes);
    driver.submit(queue, &[(list, bytes.len() as u32)], &[]);
    assert_eq!(driver.completed(queue).written_bytes, 0);
}

#[test]
fn pages_go_into_the_balloon_one_by_one() {
    let mut driver = filled();
    let first = (PAGES >> 12) as u32;
    numbers(&mut driver, INFLATE, &[first, first + 2, first + 2]);
    let found = [0, 1, 2, 3].map(|n| page(&driver, PAGES + n * 4096));
    assert_eq!(found, [Some(0), Some(7), Some(0), Some(7)]);
    driver.write(PAGES, &[9; 4096]);
    numbers(&mut driver, DEFLATE, &[first, first + 2]);
    assert_eq!(page(&driver, PAGES), Some(9));
}

#[test]
fn what_is_no_memory_is_ignored() {
    let mut driver = filled();
    let hole = (HOLE >> 12) as u32;
    let end = (ISLAND_END >> 12) as u32;
    let good = (ISLAND >> 12) as u32;
    numbers(
        &mut driver,
        INFLATE,
        &[hole, end, u32::MAX, u32::MAX - 1, good],
    );
    assert_eq!(page(&driver, ISLAND), Some(0));
    assert_eq!(page(&driver, ISLAND + 4096), Some(7));
    assert_eq!(page(&driver, HOLE - 4096), Some(7));
}

#[test]
fn a_report_of_what_is_no_memory_is_ignored_whole() {
    let mut driver = filled();
    driver.submit(REPORTING, &[], &[(PAGES, 4096), (HOLE, 4096)]);
    assert_eq!(driver.completed(REPORTING).written_bytes, 0);
    assert_eq!(page(&driver, PAGES), Some(7));
    driver.submit(REPORTING, &[], &[(PAGES, 4096)]);
    driver.completed(REPORTING);
    assert_eq!(page(&driver, PAGES), Some(0));
}

#[test]
fn one_request_is_bounded() {
    let mut driver = filled();
    let first = (PAGES >> 12) as u32;
    let pages: Vec<u32> = (0..=PAGES_MAX as u32).map(|n| first + n).collect();
    numbers(&mut driver, INFLATE, &pages);
    let end = PAGES + PAGES_MAX as u64 * 4096;
    assert_eq!(page(&driver, end - 4096), Some(0));
    assert_eq!(page(&driver, end), Some(7));
}

#[test]
fn a_list_with_a_broken_number_is_used_up_to_it() {
    let mut driver = filled();
    let list = driver.page();
    driver.write(list, &((PAGES >> 12) as u32).to_le_bytes());
    driver.submit(INFLATE, &[(list, 7)], &[]);
    driver.completed(INFLATE);
    driver.submit(INFLATE, &[(list, 3)], &[]);
    driver.completed(INFLATE);
    assert_eq!(page(&driver, PAGES), Some(0));
    assert_eq!(page(&driver, 0x3000), Some(0));
}

#[test]
fn buffers_of_the_wrong_direction_give_nothing() {
    let mut driver = filled();
    driver.submit(REPORTING, &[(PAGES, 8192)], &[]);
    driver.completed(REPORTING);
    driver.submit(INFLATE, &[], &[(PAGES, 8192)]);
    driver.completed(INFLATE);
    assert_eq!(page(&driver, PAGES), Some(7));
    assert_eq!(page(&driver, PAGES + 4096), Some(7));
}

#[test]
fn a_guest_may_give_its_own_rings_away() {
    let mut driver = filled();
    driver.submit(REPORTING, &[], &[(0, 1 << 20)]);
    // The device finds an empty ring, or one that makes no sense; then it starts anew.
    driver.reset();
    driver.bring_up();
    driver.submit(REPORTING, &[], &[(PAGES, 4096)]);
    driver.completed(REPORTING);
    assert_eq!(page(&driver, PAGES), Some(0));
}
