//! The registers and the status machine, against drivers that do as they like.

use std::time::Duration;

use virtio_bindings::virtio_config as bit;

use crate::virtio::fake::Driver;
use crate::virtio::rng;

const ACKNOWLEDGE: u32 = bit::VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = ACKNOWLEDGE | bit::VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK: u32 = DRIVER | bit::VIRTIO_CONFIG_S_FEATURES_OK;
const DRIVER_OK: u32 = FEATURES_OK | bit::VIRTIO_CONFIG_S_DRIVER_OK;
const FAILED: u32 = bit::VIRTIO_CONFIG_S_FAILED;
const NEEDS_RESET: u32 = bit::VIRTIO_CONFIG_S_NEEDS_RESET;

const STATUS: u64 = 0x070;

/// Everything from here to the device configuration is a register or nothing.
const REGISTERS_END: u64 = 0x100;

fn negotiated() -> Driver {
    let mut driver = Driver::attach(rng::open);
    driver.negotiate(u64::MAX);
    driver
}

/// The device still does what it is for.
fn assert_serves(driver: &mut Driver) {
    let page = driver.page();
    driver.submit(0, &[], &[(page, 64)]);
    assert_eq!(driver.completed(0).written_bytes, 64);
}

#[test]
fn a_driver_cannot_skip_a_step() {
    for (reached, skipped_to) in [
        (0, bit::VIRTIO_CONFIG_S_DRIVER),
        (0, bit::VIRTIO_CONFIG_S_FEATURES_OK),
        (0, bit::VIRTIO_CONFIG_S_DRIVER_OK),
        (ACKNOWLEDGE, FEATURES_OK),
        (ACKNOWLEDGE, ACKNOWLEDGE | bit::VIRTIO_CONFIG_S_DRIVER_OK),
        (DRIVER, DRIVER | bit::VIRTIO_CONFIG_S_DRIVER_OK),
        (DRIVER, DRIVER_OK),
        (DRIVER, DRIVER | 0x10),
        (DRIVER, DRIVER | 0x100),
    ] {
        let mut driver = Driver::attach(rng::open);
        driver.set_register(STATUS, reached & ACKNOWLEDGE);
        driver.set_register(STATUS, reached);
        driver.set_register(STATUS, skipped_to);
        assert_eq!(driver.status(), reached, "{reached:#x} to {skipped_to:#x}");
    }
}

#[test]
fn features_that_were_not_offered_are_not_ok() {
    let mut driver = Driver::attach(rng::open);
    driver.set_register(STATUS, ACKNOWLEDGE);
    driver.set_register(STATUS, DRIVER);
    let offered = driver.offered_features();
    driver.set_driver_features(offered | 1 << 40);
    driver.set_register(STATUS, FEATURES_OK);
    assert_eq!(driver.status(), DRIVER);
}

#[test]
fn a_driver_of_the_legacy_interface_is_refused() {
    let mut driver = Driver::attach(rng::open);
    driver.negotiate(!(1 << 32));
    assert_eq!(driver.status(), DRIVER);
}

#[test]
fn features_are_fixed_once_they_are_ok() {
    let mut driver = negotiated();
    driver.set_driver_features(1 << 40);
    driver.set_up_queues();
    driver.set_register(STATUS, DRIVER_OK);
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn status_bits_are_not_cleared_one_by_one() {
    let mut driver = Driver::start(rng::open);
    for fewer in [ACKNOWLEDGE, DRIVER, FEATURES_OK, FAILED] {
        driver.set_register(STATUS, fewer);
        assert_eq!(driver.status(), DRIVER_OK, "written: {fewer:#x}");
    }
    assert_serves(&mut driver);
}

#[test]
fn a_device_is_not_activated_twice() {
    let mut driver = Driver::start(rng::open);
    driver.set_register(STATUS, DRIVER_OK);
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn the_first_driver_of_a_device_is_told() {
    let mut driver = Driver::attach(rng::open);
    let has_driver = |driver: &Driver| driver.roster.wait_for_drivers(Duration::ZERO);
    assert!(!has_driver(&driver));
    for _ in 0..3 {
        driver.bring_up();
        assert!(has_driver(&driver));
        driver.reset();
    }
}

#[test]
fn a_driver_may_give_up_after_a_fault() {
    let mut driver = Driver::start(rng::open);
    driver.offer(0, u16::MAX);
    driver.faulted();
    driver.set_register(STATUS, DRIVER_OK | NEEDS_RESET | FAILED);
    assert_eq!(driver.status(), DRIVER_OK | NEEDS_RESET | FAILED);
}

#[test]
fn the_needs_reset_bit_alone_is_no_reset() {
    let mut driver = Driver::start(rng::open);
    driver.set_register(STATUS, NEEDS_RESET);
    assert_eq!(driver.status(), DRIVER_OK);
}

#[test]
fn resets_after_faults_leave_the_device_as_it_was() {
    let mut driver = Driver::start(rng::open);
    for _ in 0..100 {
        driver.offer(0, u16::MAX);
        driver.faulted();
        driver.reset();
        driver.bring_up();
    }
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn reads_of_any_width_and_alignment_answer_the_register_or_zero() {
    let driver = Driver::start(rng::open);
    for offset in 0..REGISTERS_END {
        for width in [1, 2, 8] {
            let mut data = vec![0xaa; width];
            driver.mmio.read(offset, &mut data);
            assert_eq!(data, vec![0; width], "{width} bytes at {offset:#x}");
        }
    }
    for offset in (0..REGISTERS_END).filter(|offset| offset % 4 != 0) {
        assert_eq!(driver.register(offset), 0, "at {offset:#x}");
    }
    let known: Vec<_> = (0..REGISTERS_END)
        .step_by(4)
        .map(|offset| (offset, driver.register(offset)))
        .filter(|&(_, value)| value != 0)
        .collect();
    assert_eq!(
        known,
        [
            (0x000, 0x7472_6976),
            (0x004, 2),
            (0x008, 4),
            (0x00c, 0x006d_766d),
            // The high half was selected last, and holds VERSION_1 alone.
            (0x010, 1),
            (0x034, 16),
            (0x044, 1),
            (0x070, DRIVER_OK),
            (0x0b0, u32::MAX),
            (0x0b4, u32::MAX),
            (0x0b8, u32::MAX),
            (0x0bc, u32::MAX),
        ]
    );
}

#[test]
fn the_configuration_ends_in_zeroes_at_any_width() {
    let driver = Driver::start(|memory| crate::virtio::Device {
        facts: crate::virtio::Facts {
            config: vec![1, 2, 3, 4, 5],
            ..rng::open(memory).facts
        },
        ..rng::open(memory)
    });
    for (offset, expected) in [
        (0x100, [1, 2, 3, 4, 5, 0, 0, 0]),
        (0x103, [4, 5, 0, 0, 0, 0, 0, 0]),
        (0x105, [0; 8]),
        (0xffc, [0; 8]),
        (u64::MAX, [0; 8]),
    ] {
        let mut data = [0xaa; 8];
        driver.mmio.read(offset, &mut data);
        assert_eq!(data, expected, "at {offset:#x}");
    }
}

#[test]
fn writes_of_wrong_widths_and_places_change_nothing() {
    let mut driver = Driver::start(rng::open);
    for offset in 0..0x1000 {
        for width in [1, 2, 3, 8] {
            driver.mmio.write(offset, &vec![0; width]);
        }
    }
    for offset in (0..0x1000).filter(|offset| offset % 4 != 0) {
        driver.set_register(offset, 0);
    }
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn queues_cannot_be_moved_under_a_running_device() {
    let mut driver = Driver::start(rng::open);
    for offset in (0x038..0x0b0).step_by(4).filter(|offset| *offset != STATUS) {
        driver.set_register(offset, 0xffff_fff0);
    }
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn no_other_queue_can_be_selected() {
    let mut driver = negotiated();
    for queue in (1..=u32::from(u16::MAX)).chain([u32::MAX]) {
        driver.set_register(0x030, queue);
        driver.set_register(0x044, 1);
        assert_eq!(driver.register(0x034), 0);
        assert_eq!(driver.register(0x044), 0);
    }
    driver.set_up_queues();
    driver.set_register(STATUS, DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn queue_sizes_out_of_range_are_refused() {
    for size in [0, 3, 17, 32, 65_535, 65_536 + 16, u32::MAX] {
        let mut driver = negotiated();
        driver.set_up_queues();
        driver.set_register(0x038, size);
        driver.set_register(STATUS, DRIVER_OK);
        assert_eq!(driver.status(), DRIVER_OK | NEEDS_RESET, "size {size}");
        assert_eq!(driver.register(0x060), 2, "size {size}");
    }
}

#[test]
fn rings_in_the_wrong_place_are_refused() {
    for (register, value) in [
        // Misaligned: 16, 2 and 4 bytes (§2.7).
        (0x080, 0x8),
        (0x090, 0x1001),
        (0x0a0, 0x1002),
        // Across the end of memory, behind it, and around 2^64.
        (0x080, (16 << 20) - 16),
        (0x090, (16 << 20) - 2),
        (0x0a0, (16 << 20) - 4),
        (0x084, 1),
        (0x094, 1),
        (0x0a4, u32::MAX),
        // Never set.
        (0x090, 0),
    ] {
        let mut driver = negotiated();
        driver.set_up_queues();
        driver.set_register(register, value);
        driver.set_register(STATUS, DRIVER_OK);
        assert_eq!(
            driver.status(),
            DRIVER_OK | NEEDS_RESET,
            "{value:#x} in {register:#x}"
        );
    }
}

#[test]
fn a_queue_that_is_ready_without_addresses_is_refused() {
    let mut driver = negotiated();
    driver.set_register(0x044, 1);
    driver.set_register(STATUS, DRIVER_OK);
    assert_eq!(driver.status(), DRIVER_OK | NEEDS_RESET);
    driver.reset();
    driver.bring_up();
    assert_serves(&mut driver);
}

#[test]
fn a_device_without_ready_queues_runs_and_does_nothing() {
    let mut driver = negotiated();
    driver.set_register(STATUS, DRIVER_OK);
    driver.set_register(0x050, 0);
    assert_eq!(driver.status(), DRIVER_OK);
}

#[test]
fn a_storm_of_kicks_is_nothing_to_the_device() {
    let mut driver = Driver::start(rng::open);
    for queue in 0..100_000 {
        driver.set_register(0x050, 0);
        driver.set_register(0x050, queue);
    }
    driver.set_register(0x050, u32::MAX);
    assert_eq!(driver.status(), DRIVER_OK);
    assert_serves(&mut driver);
}

#[test]
fn a_kick_of_the_driver_before_does_not_reach_the_next() {
    let mut driver = negotiated();
    driver.set_register(0x050, 0);
    driver.reset();
    assert!(driver.mmio.kicks()[0].read().is_err());
}

#[test]
fn acknowledging_interrupts_clears_those_bits_alone() {
    let mut driver = Driver::start(rng::open);
    assert_serves(&mut driver);
    driver.interrupted();
    driver.set_register(0x064, !1);
    assert_eq!(driver.register(0x060), 1);
    driver.set_register(0x064, 1);
    assert_eq!(driver.register(0x060), 0);
}

#[test]
fn region_0_is_where_it_was_put_and_there_is_no_other() {
    let mut driver = Driver::attach(rng::open);
    let told = |driver: &mut Driver, id: u32| {
        driver.set_register(0x0ac, id);
        let word = |offset| u64::from(driver.register(offset));
        let pair = |low, high| word(high) << 32 | word(low);
        (pair(0x0b0, 0x0b4), pair(0x0b8, 0x0bc))
    };
    let none = (u64::MAX, u64::MAX);
    assert_eq!(told(&mut driver, 0), none);
    driver.mmio.share(0x2_4000_0000..0x4_8020_0000);
    let all = (0x2_4020_0000, 0x2_4000_0000);
    for (id, expected) in [(0, all), (1, none), (u32::MAX, none), (0, all)] {
        assert_eq!(told(&mut driver, id), expected, "{id}");
    }
    driver.set_register(0x0ac, 1);
    driver.reset();
    assert_eq!(u64::from(driver.register(0x0b4)), all.0 >> 32);
}
