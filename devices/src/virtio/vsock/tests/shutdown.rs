//! How connections end: each direction on its own, after all that came before.

use std::io::{ErrorKind, Write};
use std::net;

use super::{
    GUEST_PORT, accepted, assert_serves, assert_silent, expect, on, pattern, read_exactly,
    read_to_end, receive, send, shutdown,
};
use crate::virtio::fake::Sockets;
use crate::virtio::vsock::packet::{Header, Shutdown, op};

/// What the host will not do any more, as the guest is told.
fn told(sockets: &mut Sockets, sample: Header) -> Shutdown {
    let (header, _) = expect(sockets, sample, op::SHUTDOWN);
    Shutdown::from_bits(header.flags.get()).unwrap()
}

/// More than a stream takes when nobody reads it.
const MUCH: usize = 256 << 10;

#[test]
fn a_guest_that_sends_no_more_still_receives() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, sample, b"last words");
    sockets.send(shutdown(sample, Shutdown::SEND), &[]);
    assert_eq!(read_to_end(&mut end), b"last words");
    end.write_all(b"goodbye").unwrap();
    assert_eq!(receive(&mut sockets, sample, 7), b"goodbye");
}

#[test]
fn a_guest_that_receives_no_more_still_sends() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(shutdown(sample, Shutdown::RECEIVE), &[]);
    let error = end.write_all(b"nobody hears this").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    send(&mut sockets, sample, b"goodbye");
    assert_eq!(read_exactly(&mut end, 7), b"goodbye");
    assert_silent(&mut end);
}

#[test]
fn a_guest_that_closes_is_answered_when_the_host_has_all() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    let data = pattern(MUCH);
    send(&mut sockets, sample, &data);
    expect(&mut sockets, sample, op::CREDIT_UPDATE);
    sockets.send(shutdown(sample, Shutdown::all()), &[]);
    assert!(!sockets.has_heard());
    assert_eq!(read_exactly(&mut end, 1), data[..1]);
    assert!(read_to_end(&mut end) == data[1..]);
    expect(&mut sockets, sample, op::RST);
    assert!(!sockets.has_heard());
}

#[test]
fn a_guest_that_closes_in_two_steps_has_closed() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(shutdown(sample, Shutdown::RECEIVE), &[]);
    sockets.send(shutdown(sample, Shutdown::empty()), &[]);
    sockets.send(shutdown(sample, Shutdown::SEND), &[]);
    expect(&mut sockets, sample, op::RST);
    assert_eq!(read_to_end(&mut end), b"");
}

#[test]
fn a_guest_that_closes_with_bytes_unread_is_no_error_for_the_host() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    end.write_all(&pattern(MUCH / 2)).unwrap();
    let heads: Vec<u16> = (0..32).map(|_| sockets.take().0).collect();
    send(&mut sockets, sample, b"bye");
    sockets.send(shutdown(sample, Shutdown::all()), &[]);
    assert_eq!(read_to_end(&mut end), b"bye");
    assert_eq!(heads.len(), 32);
}

#[test]
fn what_came_before_a_reset_reaches_the_host() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    let data = pattern(MUCH);
    send(&mut sockets, sample, &data);
    expect(&mut sockets, sample, op::CREDIT_UPDATE);
    sockets.send(on(sample, op::RST), &[]);
    // The guest's end of it is no more, whatever the host has yet to read.
    send(&mut sockets, sample, b"late");
    expect(&mut sockets, sample, op::RST);
    sockets.send(on(sample, op::REQUEST), &[]);
    expect(&mut sockets, sample, op::RST);
    assert!(read_to_end(&mut end) == data);
    assert_serves(&mut sockets);
}

#[test]
fn a_host_that_sends_no_more_still_receives() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = accepted(&mut sockets);
    end.write_all(b"last words").unwrap();
    end.shutdown(net::Shutdown::Write).unwrap();
    assert_eq!(receive(&mut sockets, sample, 10), b"last words");
    assert_eq!(told(&mut sockets, sample), Shutdown::SEND);
    send(&mut sockets, sample, b"goodbye");
    assert_eq!(read_exactly(&mut end, 7), b"goodbye");
}

#[test]
fn a_host_that_receives_no_more_still_sends() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = accepted(&mut sockets);
    end.shutdown(net::Shutdown::Read).unwrap();
    send(&mut sockets, sample, b"nobody hears this");
    assert_eq!(told(&mut sockets, sample), Shutdown::RECEIVE);
    // More than there is room for: it vanishes, and the credit comes back.
    for _ in 0..3 {
        send(&mut sockets, sample, &pattern(MUCH));
        expect(&mut sockets, sample, op::CREDIT_UPDATE);
    }
    end.write_all(b"goodbye").unwrap();
    assert_eq!(receive(&mut sockets, sample, 7), b"goodbye");
}

#[test]
fn a_host_that_closes_is_heard_to_its_end() {
    let mut sockets = Sockets::start();
    let (mut sample, mut end) = sockets.connect(GUEST_PORT);
    sample.buf_alloc = 3000.into();
    sockets.send(on(sample, op::CREDIT_UPDATE), &[]);
    let data = pattern(10_000);
    end.write_all(&data).unwrap();
    drop(end);
    let mut heard = Vec::new();
    let mut host = Shutdown::empty();
    while !host.is_all() {
        let (header, bytes) = sockets.hear();
        assert!([op::RW, op::SHUTDOWN].contains(&header.op.get()));
        heard.extend(bytes);
        host |= Shutdown::from_bits(header.flags.get()).unwrap();
        sample.fwd_cnt = (heard.len() as u32).into();
        sockets.send(on(sample, op::CREDIT_UPDATE), &[]);
    }
    assert_eq!(heard, data);
    sockets.send(on(sample, op::RST), &[]);
    // Forgotten on both sides.
    send(&mut sockets, sample, b"who is there?");
    expect(&mut sockets, sample, op::RST);
}

#[test]
fn a_guest_that_says_nothing_to_a_host_that_closed_can_still_close() {
    let mut sockets = Sockets::start();
    let (sample, end) = sockets.connect(GUEST_PORT);
    drop(end);
    let mut host = Shutdown::empty();
    while !host.is_all() {
        host |= told(&mut sockets, sample);
    }
    sockets.send(shutdown(sample, Shutdown::all()), &[]);
    expect(&mut sockets, sample, op::RST);
}

#[test]
fn a_host_that_closes_while_it_is_full_gives_the_credit_back() {
    let mut sockets = Sockets::start();
    let (sample, end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, sample, &pattern(MUCH));
    let (header, _) = expect(&mut sockets, sample, op::CREDIT_UPDATE);
    assert!((header.fwd_cnt.get() as usize) < MUCH);
    drop(end);
    let mut last = header;
    while last.fwd_cnt != MUCH as u32 {
        last = sockets.hear().0;
    }
    assert_eq!(last.op, op::SHUTDOWN);
}

#[test]
fn both_directions_can_end_one_after_the_other() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    end.shutdown(net::Shutdown::Write).unwrap();
    assert_eq!(told(&mut sockets, sample), Shutdown::SEND);
    send(&mut sockets, sample, b"answer");
    sockets.send(shutdown(sample, Shutdown::SEND), &[]);
    assert_eq!(read_to_end(&mut end), b"answer");
    drop(end);
    assert!(told(&mut sockets, sample).is_all());
    sockets.send(on(sample, op::RST), &[]);
    assert_serves(&mut sockets);
}
