//! The console against a driver and a host that are slow, gone, or malicious.

mod control;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use crate::virtio::console;
use crate::virtio::fake::{Driver, HOLE, Port};

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A port that nobody has opened, and the host's end of it.
fn closed_port() -> (Port, UnixStream) {
    let (stream, host) = UnixStream::pair().unwrap();
    let driver = Driver::start(|memory| console::open(memory, "agent", stream).unwrap());
    (Port::new(driver), host)
}

/// An open port and the host's end of it.
fn port() -> (Port, UnixStream) {
    let (mut port, host) = closed_port();
    port.open();
    (port, host)
}

/// Bytes that repeat nowhere near a page, a ring or a stream's buffer.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n * n % 251) as u8).collect()
}

/// Receives as many bytes from the host.
fn receive(port: &mut Port, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        all.extend(port.receive());
    }
    all
}

fn read_exactly(host: &mut UnixStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    host.read_exact(&mut all).unwrap();
    all
}

#[test]
fn bytes_go_both_ways() {
    let (mut port, mut host) = port();
    port.send(b"from the guest");
    assert_eq!(read_exactly(&mut host, 14), b"from the guest");
    host.write_all(b"from the host").unwrap();
    assert_eq!(port.receive(), b"from the host");
}

#[test]
fn buffers_where_the_port_does_not_reach_come_back() {
    let (mut port, mut host) = port();
    port.driver.submit(TRANSMIT, &[(HOLE - 4, 8)], &[]);
    assert_eq!(port.driver.completed(TRANSMIT).written_bytes, 0);
    port.send(b"from the guest");
    assert_eq!(read_exactly(&mut host, 14), b"from the guest");
    host.write_all(b"from the host").unwrap();
    assert_eq!(port.receive(), b"from the host");
}

#[test]
fn an_idle_port_comes_back_to_life_again_and_again() {
    let (mut port, mut host) = port();
    for n in 0..300u32 {
        host.write_all(&n.to_le_bytes()).unwrap();
        assert_eq!(port.receive(), n.to_le_bytes());
        port.send(&n.to_le_bytes());
        assert_eq!(read_exactly(&mut host, 4), n.to_le_bytes());
    }
}

#[test]
fn a_full_host_holds_the_guests_buffers_and_goes_on_where_it_stopped() {
    let (mut port, mut host) = port();
    let bytes = pattern(1 << 20);
    port.post(&bytes);
    let first = read_exactly(&mut host, 1);
    assert_eq!(port.driver.used_index(TRANSMIT), 0);
    let rest = read_exactly(&mut host, bytes.len() - 1);
    assert_eq!([first, rest].concat(), bytes);
    port.driver.completed(TRANSMIT);
}

#[test]
fn buffers_behind_a_full_host_come_back_in_order() {
    let (mut port, mut host) = port();
    let bytes = pattern(1 << 20);
    // One mebibyte of guest memory, sent eight times.
    for _ in 0..8 {
        port.post(&bytes);
    }
    for _ in 0..8 {
        assert_eq!(read_exactly(&mut host, bytes.len()), bytes);
    }
    let heads: Vec<_> = (0..8)
        .map(|_| port.driver.completed(TRANSMIT).head)
        .collect();
    assert_eq!(heads, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_full_host_does_not_hold_up_what_it_sends() {
    let (mut port, mut host) = port();
    port.post(&pattern(1 << 20));
    host.write_all(b"are you there?").unwrap();
    assert_eq!(port.receive(), b"are you there?");
}

#[test]
fn a_reset_forgets_what_a_full_host_has_not_taken() {
    let (mut port, mut host) = port();
    port.post(&pattern(1 << 20));
    read_exactly(&mut host, 1);
    port.open();
    port.post(b"a new life");
    let mut heard = Vec::new();
    while !heard.ends_with(b"a new life") {
        heard.extend(read_exactly(&mut host, 1));
    }
    assert!(heard.len() < 1 << 20);
    assert_eq!(port.driver.completed(TRANSMIT).head, 0);
}

#[test]
fn a_guest_without_buffers_gets_the_rest_when_it_has_some() {
    let (mut port, mut host) = port();
    let bytes = pattern(300 << 10);
    let sent = bytes.clone();
    let writer = thread::spawn(move || host.write_all(&sent).map(|()| host));
    let (heads, parts): (Vec<_>, Vec<_>) = (0..32).map(|_| port.take()).unzip();
    for head in heads {
        port.driver.offer(RECEIVE, head);
    }
    let taken = parts.concat();
    let rest = receive(&mut port, bytes.len() - taken.len());
    assert_eq!([taken, rest].concat(), bytes);
    writer.join().unwrap().unwrap();
}

#[test]
fn sixty_four_mebibytes_are_the_same_behind_the_port() {
    let (mut port, mut host) = port();
    let bytes = pattern(1 << 20);
    let expected = bytes.clone();
    let echo = thread::spawn(move || {
        for _ in 0..64 {
            assert_eq!(read_exactly(&mut host, expected.len()), expected);
            host.write_all(&expected).unwrap();
        }
        host
    });
    for _ in 0..64 {
        port.send(&bytes);
        assert_eq!(receive(&mut port, bytes.len()), bytes);
    }
    echo.join().unwrap();
}

#[test]
fn a_guest_that_has_not_opened_the_port_loses_nothing() {
    let (mut port, mut host) = closed_port();
    host.write_all(b"early").unwrap();
    port.post_data();
    port.connect();
    port.tell(0, 0, 1);
    port.tell(0, 3, 1);
    assert_eq!(port.driver.used_index(RECEIVE), 0);
    port.tell(0, 6, 1);
    assert_eq!(port.receive(), b"early");
}

#[test]
fn a_guest_that_closes_the_port_loses_nothing() {
    let (mut port, mut host) = port();
    port.tell(0, 6, 0);
    host.write_all(b"later").unwrap();
    port.send(b"still heard");
    assert_eq!(read_exactly(&mut host, 11), b"still heard");
    assert_eq!(port.driver.used_index(RECEIVE), 0);
    port.tell(0, 6, 1);
    assert_eq!(port.receive(), b"later");
}

#[test]
fn buffers_of_no_bytes_come_back_empty() {
    let (mut port, mut host) = port();
    port.send(b"");
    port.driver.submit(TRANSMIT, &[], &[(0x30_0000, 64)]);
    assert_eq!(port.driver.completed(TRANSMIT).written_bytes, 0);
    port.send(b"x");
    assert_eq!(read_exactly(&mut host, 1), b"x");
}

#[test]
fn receive_buffers_without_room_come_back_empty() {
    let (mut port, mut host) = closed_port();
    port.connect();
    port.driver.submit(RECEIVE, &[], &[(0x30_0000, 0)]);
    port.driver.submit(RECEIVE, &[(0x30_0000, 64)], &[]);
    port.driver
        .submit(RECEIVE, &[], &[(0x30_0000, 1), (0x30_1000, 7)]);
    port.tell(0, 6, 1);
    host.write_all(b"12345678").unwrap();
    let written: Vec<_> = (0..3)
        .map(|_| port.driver.completed(RECEIVE).written_bytes)
        .collect();
    assert_eq!(written, [0, 0, 8]);
    assert_eq!(port.driver.read(0x30_1000, 7), b"2345678");
}

#[test]
fn what_the_host_sent_arrives_before_its_end() {
    let (mut port, mut host) = port();
    host.write_all(b"last words").unwrap();
    drop(host);
    assert_eq!(port.receive(), b"last words");
    assert_eq!(port.heard(), control::OPEN_NO_MORE);
}

#[test]
fn what_the_guest_writes_to_a_host_that_is_gone_vanishes() {
    let (mut port, host) = port();
    drop(host);
    for _ in 0..100 {
        port.send(b"nobody hears this");
    }
    assert_eq!(port.heard(), control::OPEN_NO_MORE);
    assert_eq!(port.driver.status(), 15);
}

#[test]
fn a_write_to_a_host_that_is_gone_does_not_lose_what_it_sent() {
    let (mut port, mut host) = closed_port();
    port.connect();
    port.post_data();
    host.write_all(b"last words").unwrap();
    drop(host);
    port.send(b"nobody hears this");
    port.tell(0, 6, 1);
    assert_eq!(port.receive(), b"last words");
    assert_eq!(port.heard(), control::OPEN_NO_MORE);
}

#[test]
fn a_host_that_closed_while_it_was_full_gives_the_buffers_back() {
    let (mut port, mut host) = port();
    port.post(&pattern(1 << 20));
    port.post(&pattern(1 << 20));
    read_exactly(&mut host, 1);
    drop(host);
    port.driver.completed(TRANSMIT);
    port.driver.completed(TRANSMIT);
    assert_eq!(port.heard(), control::OPEN_NO_MORE);
}

#[test]
fn a_host_that_sends_no_more_still_listens() {
    let (mut port, mut host) = port();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(port.heard(), control::OPEN_NO_MORE);
    port.send(b"goodbye");
    assert_eq!(read_exactly(&mut host, 7), b"goodbye");
}

#[test]
fn a_host_that_listens_no_more_still_sends() {
    let (mut port, mut host) = port();
    host.shutdown(Shutdown::Read).unwrap();
    port.send(b"nobody hears this");
    host.write_all(b"goodbye").unwrap();
    assert_eq!(port.receive(), b"goodbye");
}
