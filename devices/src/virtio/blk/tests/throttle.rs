//! A disk with a rate: what is too much waits, and nothing is forgotten.

use std::num::NonZeroU64;

use super::*;
use crate::virtio::rate_limiter::Rate;

/// Flags of descriptors, §2.7.5.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

fn limited(bytes_per_second: u64, vcpus: u16) -> Disk {
    let rate = Rate {
        bytes_per_second: NonZeroU64::new(bytes_per_second),
        ops_per_second: None,
        burst_bytes: NonZeroU64::new(1),
    };
    Disk::new(Config {
        rate: Some(rate),
        vcpus,
        ..config(&image())
    })
}

#[test]
fn a_request_beyond_the_rate_waits() {
    let mut disk = limited(1, 1);
    disk.set_header(IN, 0);
    // Two reads of a page at once; the second one's turn comes in more than an hour.
    for head in [0, 3] {
        let driver = &disk.driver;
        driver.set_descriptor(0, head, disk.header, 16, NEXT, head + 1);
        driver.set_descriptor(0, head + 1, disk.data, 4096, NEXT | WRITE, head + 2);
        driver.set_descriptor(0, head + 2, disk.status, 1, WRITE, 0);
    }
    disk.driver.offer_silently(0, 0);
    disk.driver.offer(0, 3);
    assert_eq!(disk.outcome(0).0, OK);
    // A reset waits for the worker: what it would do it has done.
    disk.driver.set_register(0x070, 0);
    assert!(!disk.driver.has_completed(0));
}

#[test]
fn what_waited_is_served_when_its_time_has_come() {
    // Each page waits for 4 ms, on whichever queue.
    let mut disk = limited(1 << 20, 2);
    for nth in 0..20 {
        disk.post(nth % 2, OUT, 8, 4096);
        assert_eq!(disk.outcome(nth % 2).0, OK);
    }
    assert_eq!(disk.request(FLUSH, 0, 0), OK);
}

#[test]
fn a_reset_gives_nothing_back() {
    let mut disk = limited(1, 1);
    assert_eq!(disk.request(IN, 0, 4096), OK);
    disk.driver.reset();
    disk.driver.bring_up();
    disk.post(0, IN, 0, 4096);
    disk.driver.set_register(0x070, 0);
    assert!(!disk.driver.has_completed(0));
}
