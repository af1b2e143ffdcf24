//! Rings over their wraps, and rings as no driver would write them.

use crate::Memory;
use crate::virtio::fake::{Driver, EVENT_IDX};
use crate::virtio::{Chain, Device, Facts, Fault, Handler, Part, Queue};

const QUEUE_SIZE: u16 = 256;

/// More than three times around 16-bit indices.
const REQUESTS: usize = 200_000;

/// Gives back each chain and says that it wrote as many bytes as it could have.
struct Mirror(Chain);

impl Handler for Mirror {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        while queues[index].pop(&mut self.0)? {
            queues[index].push(&self.0, self.0.writable.remaining_bytes())?;
        }
        Ok(())
    }
}

fn mirror(memory: &Memory) -> Device {
    let facts = Facts {
        id: 42,
        name: "mirror".into(),
        features: 0,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
    };
    let handler = Box::new(Mirror(Chain::new(memory)));
    Device {
        facts,
        parts: vec![Part {
            queues: 0..1,
            handler,
        }],
    }
}

fn assert_serves(driver: &mut Driver) {
    let page = driver.page();
    driver.submit(0, &[], &[(page, 64)]);
    assert_eq!(driver.completed(0).written_bytes, 64);
}

/// `REQUESTS` requests of a driver that kicks only when asked to and sleeps until interrupted.
fn serves_many_requests(features: u64) {
    let mut driver = Driver::attach(mirror);
    driver.polite = true;
    driver.bring_up_with(features);
    let page = driver.page();
    let mut served = 0;
    while served < REQUESTS {
        // Batches of all sizes, so that they end at each place of the ring.
        let batch = 1 + served % usize::from(QUEUE_SIZE);
        for n in 0..batch {
            driver.submit(0, &[], &[(page, n as u32 + 1)]);
        }
        let written: Vec<_> = driver
            .completed_by_interrupts(0, batch)
            .iter()
            .map(|used| used.written_bytes as usize)
            .collect();
        assert_eq!(written, (1..=batch).collect::<Vec<_>>());
        served += batch;
    }
    assert_eq!(driver.used_index(0), served as u16);
}

#[test]
fn indices_wrap_with_event_idx() {
    serves_many_requests(u64::MAX);
}

#[test]
fn indices_wrap_without_event_idx() {
    serves_many_requests(!EVENT_IDX);
}

#[test]
fn an_available_index_that_jumps_ahead() {
    for jump in [QUEUE_SIZE + 1, 1000, 0x8000] {
        let mut driver = Driver::start(mirror);
        driver.set_avail_index(0, jump);
        driver.faulted();
        assert_eq!(driver.used_index(0), 0);
        driver.reset();
        driver.bring_up();
        assert_serves(&mut driver);
    }
}

#[test]
fn an_available_index_that_goes_back() {
    let mut driver = Driver::start(mirror);
    for _ in 0..3 {
        assert_serves(&mut driver);
    }
    driver.set_avail_index(0, 2);
    driver.faulted();
    assert_eq!(driver.used_index(0), 3);
    driver.reset();
    driver.bring_up();
    assert_serves(&mut driver);
}

#[test]
fn a_head_outside_the_queue() {
    for head in [QUEUE_SIZE, QUEUE_SIZE + 1, u16::MAX] {
        let mut driver = Driver::start(mirror);
        assert_serves(&mut driver);
        driver.offer(0, head);
        driver.faulted();
        assert_eq!(driver.used_index(0), 1);
        driver.reset();
        driver.bring_up();
        assert_serves(&mut driver);
    }
}

#[test]
fn the_same_head_many_times_is_served_as_often_as_it_was_offered() {
    let mut driver = Driver::start(mirror);
    let page = driver.page();
    driver.set_descriptor(0, 7, page, 9, 2, 0);
    for _ in 0..QUEUE_SIZE {
        driver.offer_silently(0, 7);
    }
    driver.set_register(0x050, 0);
    for _ in 0..QUEUE_SIZE {
        let used = driver.completed(0);
        assert_eq!((used.head, used.written_bytes), (7, 9));
    }
    assert_eq!(driver.used_index(0), QUEUE_SIZE);
}

#[test]
fn absurd_used_events_stall_nothing() {
    let mut driver = Driver::start(mirror);
    for event in [0x8000u16, u16::MAX, 300, 0x7fff] {
        driver.write(driver.used_event_gpa(0), &event.to_le_bytes());
        for _ in 0..10 {
            assert_serves(&mut driver);
        }
    }
    let event = driver.used_index(0);
    driver.write(driver.used_event_gpa(0), &event.to_le_bytes());
    driver.set_register(0x064, u32::MAX);
    let page = driver.page();
    driver.submit(0, &[], &[(page, 64)]);
    assert_eq!(driver.completed_by_interrupts(0, 1)[0].written_bytes, 64);
}

#[test]
fn a_queue_of_one_descriptor_serves() {
    let mut driver = Driver::attach(mirror);
    driver.negotiate(u64::MAX);
    driver.set_up_queues();
    driver.set_register(0x038, 1);
    driver.set_register(0x070, 15);
    let page = driver.page();
    driver.set_descriptor(0, 0, page, 64, 2, 0);
    driver.set_avail_index(0, 1);
    assert_eq!(driver.completed(0).written_bytes, 64);
}
