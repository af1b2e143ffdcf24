//! Chains as no driver would make them: each is refused whole, and the device lives on.

use crate::Memory;
use crate::virtio::fake::{Driver, HOLE, INDIRECT, ISLAND, ISLAND_END, NEXT, SEAM, WRITE};
use crate::virtio::{Chain, Device, Facts, Fault, Handler, Part, Queue};

const QUEUE_SIZE: u16 = 16;

/// Bytes that the echo copies at most.
const ECHO_BYTES: usize = 1 << 16;

/// Copies what it may read to where it may write.
struct Echo(Chain);

impl Handler for Echo {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        while queues[index].pop(&mut self.0)? {
            let mut bytes = vec![0; ECHO_BYTES];
            let read = self.0.readable.read(&mut bytes)?;
            let written = self.0.writable.write(&bytes[..read])?;
            assert_eq!(written, self.0.writable.consumed_bytes());
            queues[index].push(&self.0, written)?;
        }
        Ok(())
    }
}

fn echo(memory: &Memory) -> Device {
    let facts = Facts {
        id: 42,
        name: "echo".into(),
        features: 0,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
    };
    let handler = Box::new(Echo(Chain::new(memory)));
    Device {
        facts,
        parts: vec![Part {
            queues: 0..1,
            handler,
        }],
    }
}

/// A descriptor: address, bytes, flags, next.
type Descriptor = (u64, u32, u16, u16);

fn lay(driver: &Driver, descriptors: &[Descriptor]) {
    for (index, &(gpa, bytes, flags, next)) in (0..).zip(descriptors) {
        driver.set_descriptor(0, index, gpa, bytes, flags, next);
    }
}

fn lay_table(driver: &Driver, table: u64, descriptors: &[Descriptor]) {
    for (index, &(gpa, bytes, flags, next)) in (0..).zip(descriptors) {
        driver.set_table_entry(table, index, gpa, bytes, flags, next);
    }
}

/// The chain at 0 is refused, none of it is used, and after a reset the device serves.
fn assert_refused(driver: &mut Driver) {
    driver.offer(0, 0);
    driver.faulted();
    assert_eq!(driver.used_index(0), 0);
    driver.reset();
    driver.bring_up();
    assert_serves(driver);
}

fn assert_serves(driver: &mut Driver) {
    let (from, to) = (driver.page(), driver.page());
    driver.write(from, b"well");
    driver.submit(0, &[(from, 4)], &[(to, 4)]);
    assert_eq!(driver.completed(0).written_bytes, 4);
    assert_eq!(driver.read(to, 4), b"well");
}

/// The chain is where the device does not reach: it comes back, none of it is used, and the device serves on.
fn comes_back(descriptors: &[Descriptor]) {
    let mut driver = Driver::start(echo);
    driver.write(PAGE + 64, &[9; 8]);
    lay(&driver, descriptors);
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 0);
    assert_eq!(driver.read(PAGE + 64, 8), [9; 8]);
    assert_serves(&mut driver);
}

fn refuses(descriptors: &[Descriptor]) {
    let mut driver = Driver::start(echo);
    lay(&driver, descriptors);
    assert_refused(&mut driver);
}

fn refuses_table(bytes: u32, descriptors: &[Descriptor]) {
    let mut driver = Driver::start(echo);
    let table = driver.page();
    lay_table(&driver, table, descriptors);
    lay(&driver, &[(table, bytes, INDIRECT, 0)]);
    assert_refused(&mut driver);
}

/// Copies 8 bytes from one place to another, which may be anywhere in memory.
fn copies(from: u64, to: u64) {
    let mut driver = Driver::start(echo);
    driver.write(from, b"12345678");
    driver.submit(0, &[(from, 8)], &[(to, 8)]);
    assert_eq!(driver.completed(0).written_bytes, 8);
    assert_eq!(driver.read(to, 8), b"12345678");
}

const PAGE: u64 = 3 << 20;

#[test]
fn a_descriptor_that_follows_itself() {
    refuses(&[(PAGE, 8, NEXT, 0)]);
}

#[test]
fn a_cycle_of_two() {
    refuses(&[(PAGE, 8, NEXT, 1), (PAGE, 8, NEXT, 0)]);
}

#[test]
fn a_cycle_of_three_behind_a_start() {
    refuses(&[
        (PAGE, 8, NEXT, 1),
        (PAGE, 8, NEXT, 2),
        (PAGE, 8, NEXT | WRITE, 3),
        (PAGE, 8, NEXT | WRITE, 1),
    ]);
}

#[test]
fn a_cycle_through_the_whole_table() {
    let around: Vec<_> = (1..=QUEUE_SIZE)
        .map(|next| (PAGE, 8, NEXT, next % QUEUE_SIZE))
        .collect();
    refuses(&around);
}

#[test]
fn a_chain_as_long_as_its_queue_is_served() {
    let mut driver = Driver::start(echo);
    let mut row: Vec<_> = (1..=QUEUE_SIZE).map(|next| (PAGE, 1, NEXT, next)).collect();
    row[15] = (PAGE + 64, 15, WRITE, 0);
    lay(&driver, &row);
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 15);
}

#[test]
fn a_next_behind_the_table() {
    refuses(&[(PAGE, 8, NEXT, QUEUE_SIZE)]);
    refuses(&[(PAGE, 8, NEXT, u16::MAX)]);
}

#[test]
fn a_readable_buffer_behind_a_writable_one() {
    refuses(&[(PAGE, 8, NEXT | WRITE, 1), (PAGE, 8, 0, 0)]);
}

#[test]
fn a_table_in_a_table() {
    let mut driver = Driver::start(echo);
    let (outer, inner) = (driver.page(), driver.page());
    lay_table(&driver, inner, &[(PAGE, 8, 0, 0)]);
    lay_table(&driver, outer, &[(inner, 16, INDIRECT, 0)]);
    lay(&driver, &[(outer, 16, INDIRECT, 0)]);
    assert_refused(&mut driver);
}

#[test]
fn a_table_in_a_table_behind_a_buffer() {
    let mut driver = Driver::start(echo);
    let (outer, inner) = (driver.page(), driver.page());
    lay_table(&driver, inner, &[(PAGE, 8, 0, 0)]);
    lay_table(
        &driver,
        outer,
        &[(PAGE, 8, NEXT, 1), (inner, 16, INDIRECT, 0)],
    );
    lay(&driver, &[(outer, 32, INDIRECT, 0)]);
    assert_refused(&mut driver);
}

#[test]
fn a_table_that_names_itself() {
    let mut driver = Driver::start(echo);
    let table = driver.page();
    lay_table(&driver, table, &[(table, 16, INDIRECT, 0)]);
    lay(&driver, &[(table, 16, INDIRECT, 0)]);
    assert_refused(&mut driver);
}

#[test]
fn a_table_and_a_next_are_the_table_alone() {
    let mut driver = Driver::start(echo);
    let table = driver.page();
    lay_table(
        &driver,
        table,
        &[(PAGE, 8, NEXT, 1), (PAGE + 64, 8, WRITE, 0)],
    );
    lay(
        &driver,
        &[(table, 32, INDIRECT | NEXT, 1), (PAGE + 128, 8, WRITE, 0)],
    );
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 8);
    assert_eq!(driver.read(PAGE + 128, 8), [0; 8]);
}

#[test]
fn a_table_behind_a_buffer_is_served() {
    let mut driver = Driver::start(echo);
    let table = driver.page();
    lay_table(&driver, table, &[(PAGE + 64, 8, WRITE, 0)]);
    lay(&driver, &[(PAGE, 8, NEXT, 1), (table, 16, INDIRECT, 0)]);
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 8);
}

#[test]
fn tables_of_broken_sizes() {
    for bytes in [0, 1, 15, 17, 31, u32::MAX, 16 * 65_536] {
        refuses_table(bytes, &[(PAGE, 8, 0, 0)]);
    }
}

#[test]
fn a_table_that_ends_before_its_chain() {
    refuses_table(16, &[(PAGE, 8, NEXT, 1), (PAGE, 8, 0, 0)]);
}

#[test]
fn a_cycle_in_a_table() {
    refuses_table(32, &[(PAGE, 8, NEXT, 1), (PAGE, 8, NEXT, 0)]);
}

#[test]
fn a_cycle_in_the_largest_table_there_can_be() {
    let mut driver = Driver::start(echo);
    let table = driver.pages(256);
    for index in 0..u16::MAX {
        driver.set_table_entry(table, index, PAGE, 1, NEXT, (index + 1) % u16::MAX);
    }
    lay(&driver, &[(table, 16 * 65_535, INDIRECT, 0)]);
    assert_refused(&mut driver);
}

#[test]
fn tables_outside_memory() {
    for table in [
        HOLE,
        HOLE - 8,
        ISLAND - 8,
        ISLAND_END,
        u64::MAX,
        u64::MAX - 15,
    ] {
        refuses(&[(table, 32, INDIRECT, 0)]);
    }
}

#[test]
fn a_table_at_the_end_of_memory_is_served() {
    let mut driver = Driver::start(echo);
    lay_table(&driver, ISLAND_END - 16, &[(PAGE, 8, WRITE, 0)]);
    lay(&driver, &[(ISLAND_END - 16, 16, INDIRECT, 0)]);
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 0);
}

#[test]
fn buffers_that_wrap_around_leave_memory_or_lie_in_the_hole() {
    /// With two buffers of eight bytes not yet too much for a chain.
    const LARGEST: u32 = u32::MAX - 16;
    for (gpa, bytes) in [
        (u64::MAX, 1),
        (u64::MAX, 2),
        (u64::MAX - 7, 8),
        (u64::MAX - 7, 64),
        (u64::MAX - u64::from(u32::MAX), LARGEST),
        (HOLE, 1),
        (HOLE - 1, 2),
        (HOLE - 8, LARGEST),
        (ISLAND - 1, 2),
        (ISLAND - 1, 1),
        (ISLAND_END - 1, 2),
        (ISLAND_END, 1),
        (0, LARGEST),
        (0xd000_0000, 64),
    ] {
        comes_back(&[(gpa, bytes, 0, 0)]);
        comes_back(&[(gpa, bytes, WRITE, 0)]);
        comes_back(&[(PAGE, 8, NEXT, 1), (gpa, bytes, WRITE, 0)]);
        let of_both = (PAGE + 64, 8, NEXT | WRITE, 2);
        comes_back(&[(PAGE, 8, NEXT, 1), of_both, (gpa, bytes, WRITE, 0)]);
    }
}

#[test]
fn a_ring_full_of_chains_outside_memory_comes_back() {
    let mut driver = Driver::start(echo);
    let table = driver.page();
    lay_table(&driver, table, &[(HOLE, 8, WRITE, 0)]);
    for _ in 0..1000 {
        for index in 0..QUEUE_SIZE {
            driver.set_descriptor(0, index, table, 16, INDIRECT, 0);
            driver.offer(0, index);
        }
        for _ in 0..QUEUE_SIZE {
            assert_eq!(driver.completed(0).written_bytes, 0);
        }
    }
    assert_serves(&mut driver);
}

#[test]
fn chains_of_more_than_4_gib() {
    let bytes = 8 << 20;
    let table: Vec<_> = (1..=1024).map(|next| (0, bytes, NEXT, next)).collect();
    refuses_table(16 * 1024, &table);
}

#[test]
fn buffers_at_every_edge_of_memory_are_served() {
    copies(PAGE, HOLE - 8);
    copies(HOLE - 8, PAGE);
    copies(ISLAND, ISLAND_END - 8);
    copies(SEAM - 4, PAGE);
    copies(PAGE, SEAM - 4);
    copies(PAGE + 1, PAGE + 4095);
}

#[test]
fn buffers_in_the_rings_harm_the_guest_alone() {
    let mut driver = Driver::start(echo);
    // The descriptor table itself, the available ring and the used ring.
    driver.submit(0, &[(PAGE, 4096)], &[(0, 4096)]);
    driver.mmio.shutdown();
    driver.reset();
    driver.bring_up();
    driver.submit(0, &[(PAGE, 8)], &[(PAGE + 64, 8)]);
    assert_eq!(driver.completed(0).written_bytes, 8);
}

#[test]
fn buffers_of_no_bytes_are_nothing_wherever_they_are() {
    let mut driver = Driver::start(echo);
    lay(
        &driver,
        &[
            (u64::MAX, 0, NEXT, 1),
            (PAGE, 8, NEXT, 2),
            (HOLE, 0, NEXT | WRITE, 3),
            (PAGE + 64, 8, WRITE, 0),
        ],
    );
    driver.offer(0, 0);
    assert_eq!(driver.completed(0).written_bytes, 8);
}

#[test]
fn chains_of_one_direction_have_nothing_of_the_other() {
    let mut driver = Driver::start(echo);
    driver.submit(0, &[(PAGE, 8)], &[]);
    assert_eq!(driver.completed(0).written_bytes, 0);
    driver.submit(0, &[], &[(PAGE, 8)]);
    assert_eq!(driver.completed(0).written_bytes, 0);
}

#[test]
fn pieces_of_all_sizes_are_put_together() {
    let mut driver = Driver::start(echo);
    let bytes: Vec<u8> = (0..255).collect();
    driver.write(PAGE, &bytes);
    let to = PAGE + 4096;
    driver.submit(
        0,
        &[(PAGE, 1), (PAGE + 1, 100), (PAGE + 101, 154)],
        &[(to, 50), (to + 50, 1), (to + 51, 204)],
    );
    assert_eq!(driver.completed(0).written_bytes, 255);
    assert_eq!(driver.read(to, 255), bytes);
}
