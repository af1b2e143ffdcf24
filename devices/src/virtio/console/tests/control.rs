//! The control queues: the handshake, and messages that make no sense.

use std::io::Write;

use super::{closed_port, port, read_exactly};
use crate::virtio::fake::{Port, message};

const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;

const DEVICE_READY: u16 = 0;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

/// The host closed its end: port 0, `PORT_OPEN`, 0.
pub const OPEN_NO_MORE: [u8; 8] = [0, 0, 0, 0, 6, 0, 0, 0];

/// The port still works after a message that means nothing.
fn assert_serves(port: &mut Port, host: &mut std::os::unix::net::UnixStream) {
    host.write_all(b"ping").unwrap();
    assert_eq!(port.receive(), b"ping");
    port.send(b"pong");
    assert_eq!(read_exactly(host, 4), b"pong");
}

#[test]
fn the_port_has_its_name_and_is_open() {
    let (mut port, _host) = closed_port();
    port.connect();
    port.tell(0, DEVICE_READY, 1);
    assert_eq!(port.heard(), message(0, 1, 1));
    port.tell(0, PORT_READY, 1);
    assert_eq!(port.heard(), [&message(0, 7, 1)[..], b"agent"].concat());
    assert_eq!(port.heard(), message(0, 6, 1));
}

#[test]
fn a_driver_that_starts_over_is_told_all_again() {
    let (mut port, mut host) = port();
    for _ in 0..10 {
        assert_eq!(port.open(), "agent");
        assert_serves(&mut port, &mut host);
    }
}

#[test]
fn a_driver_that_starts_over_learns_that_the_host_is_gone() {
    let (mut port, host) = port();
    drop(host);
    assert_eq!(port.heard(), OPEN_NO_MORE);
    port.driver.reset();
    port.driver.bring_up();
    port.connect();
    port.tell(0, PORT_READY, 1);
    port.heard();
    assert_eq!(port.heard(), OPEN_NO_MORE);
}

#[test]
fn answers_wait_for_buffers() {
    let (mut port, _host) = closed_port();
    port.tell(0, DEVICE_READY, 1);
    port.tell(0, PORT_READY, 1);
    assert_eq!(port.driver.used_index(CONTROL_RECEIVE), 0);
    port.connect();
    assert_eq!(port.heard(), message(0, 1, 1));
    assert_eq!(port.heard().split_off(8), b"agent");
    assert_eq!(port.heard(), message(0, 6, 1));
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let (mut port, _host) = closed_port();
    for _ in 0..1000 {
        port.tell(0, DEVICE_READY, 1);
    }
    port.connect();
    for _ in 0..16 {
        assert_eq!(port.heard(), message(0, 1, 1));
    }
    port.tell(0, PORT_READY, 1);
    assert_eq!(port.heard().split_off(8), b"agent");
}

#[test]
fn other_ports_and_events_mean_nothing() {
    let (mut port, mut host) = port();
    for event in [0, 1, 2, 3, 4, 5, 6, 7, 8, 0x8000, u16::MAX] {
        for other in [1, 2, 31, u32::MAX] {
            port.tell(other, event, 0);
        }
    }
    for event in [1, 2, 4, 5, 7, 8, u16::MAX] {
        port.tell(0, event, 1);
    }
    assert_serves(&mut port, &mut host);
}

#[test]
fn a_storm_of_opens_and_closes_ends_as_its_last() {
    let (mut port, mut host) = port();
    for n in 0..1000 {
        port.tell(0, PORT_OPEN, n % 2);
    }
    assert_serves(&mut port, &mut host);
}

#[test]
fn a_message_with_more_behind_it_is_read_as_far_as_it_goes() {
    let (mut port, mut host) = port();
    port.tell_bytes(&[message(0, PORT_OPEN, 1), vec![0xff; 5000]].concat());
    port.driver.completed(CONTROL_TRANSMIT);
    assert_serves(&mut port, &mut host);
}

#[test]
fn a_message_that_is_cut_short_makes_the_device_need_a_reset() {
    for bytes in 0..8 {
        let (mut port, mut host) = port();
        port.tell_bytes(&[0xff; 8][..bytes]);
        port.driver.faulted();
        port.open();
        assert_serves(&mut port, &mut host);
    }
}

#[test]
fn a_message_in_the_wrong_direction_makes_the_device_need_a_reset() {
    let (mut port, mut host) = port();
    let page = port.driver.page();
    port.driver.submit(CONTROL_TRANSMIT, &[], &[(page, 8)]);
    port.driver.faulted();
    port.open();
    assert_serves(&mut port, &mut host);
}

#[test]
fn a_buffer_that_is_too_small_holds_what_fits() {
    let (mut port, _host) = closed_port();
    let page = port.driver.page();
    port.driver.submit(CONTROL_RECEIVE, &[], &[(page, 10)]);
    port.driver.submit(CONTROL_RECEIVE, &[], &[(page + 64, 3)]);
    port.tell(0, PORT_READY, 1);
    assert_eq!(port.driver.completed(CONTROL_RECEIVE).written_bytes, 10);
    assert_eq!(port.driver.completed(CONTROL_RECEIVE).written_bytes, 3);
    assert_eq!(port.driver.read(page + 8, 3), b"ag\0");
}
