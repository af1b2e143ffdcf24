//! Bytes and credit: everything arrives, in order, and nobody holds up anybody else.

use std::io::Write;
use std::thread;

use super::{
    GUEST_PORT, accepted, assert_silent, expect, on, pattern, read_exactly, receive, send,
};
use crate::virtio::fake::{NEXT, Sockets};
use crate::virtio::vsock::packet::{HEADER_BYTES, Header, op};

/// Bytes that the guest may have in the device on one of the first connections.
const WINDOW: usize = 256 << 10;

/// A guest that has room for `buf_alloc` bytes, of which it has read `fwd_cnt`.
fn update(sample: Header, buf_alloc: u32, fwd_cnt: u32) -> Header {
    Header {
        buf_alloc: buf_alloc.into(),
        fwd_cnt: fwd_cnt.into(),
        ..on(sample, op::CREDIT_UPDATE)
    }
}

/// Sends `data` in packets, as credit allows.
fn send_all(sockets: &mut Sockets, sample: Header, data: &[u8]) {
    let mut sent: usize = 0;
    let mut passed_on: usize = 0;
    for packet in data.chunks(48 << 10) {
        while sent + packet.len() - passed_on > WINDOW {
            let (header, _) = expect(sockets, sample, op::CREDIT_UPDATE);
            assert_eq!(header.buf_alloc, WINDOW as u32);
            passed_on = header.fwd_cnt.get() as usize;
        }
        send(sockets, sample, packet);
        sent += packet.len();
    }
}

#[test]
fn an_idle_connection_comes_back_to_life_again_and_again() {
    let mut sockets = Sockets::start();
    let (mut sample, mut end) = sockets.connect(GUEST_PORT);
    for n in 0..300u32 {
        end.write_all(&n.to_le_bytes()).unwrap();
        assert_eq!(receive(&mut sockets, sample, 4), n.to_le_bytes());
        sample.fwd_cnt = (4 * n + 4).into();
        send(&mut sockets, sample, &n.to_le_bytes());
        assert_eq!(read_exactly(&mut end, 4), n.to_le_bytes());
    }
}

#[test]
fn a_guest_is_told_of_room_as_the_host_reads() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    let data = pattern(5 << 20);
    let expected = data.clone();
    let reader = thread::spawn(move || (read_exactly(&mut end, expected.len()) == expected, end));
    send_all(&mut sockets, sample, &data);
    assert!(reader.join().unwrap().0);
}

#[test]
fn what_a_slow_host_has_not_read_is_kept_and_no_room_is_promised() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    let data = pattern(WINDOW);
    // Two windows: more than the stream takes of the first is kept of the second.
    send(&mut sockets, sample, &data);
    let (header, _) = expect(&mut sockets, sample, op::CREDIT_UPDATE);
    let taken = header.fwd_cnt.get() as usize;
    assert!(taken < WINDOW);
    send(&mut sockets, sample, &data[..taken]);
    sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
    let (header, _) = expect(&mut sockets, sample, op::CREDIT_UPDATE);
    assert_eq!(header.fwd_cnt, taken as u32);
    assert_eq!(read_exactly(&mut end, WINDOW), data);
    assert_eq!(read_exactly(&mut end, taken), data[..taken]);
    assert_silent(&mut end);
}

#[test]
fn a_host_that_does_not_read_holds_up_nobody_else() {
    let mut sockets = Sockets::start();
    let (full, _full_end) = sockets.connect(GUEST_PORT);
    let (other, mut end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, full, &pattern(WINDOW));
    send(&mut sockets, other, b"hello");
    assert_eq!(read_exactly(&mut end, 5), b"hello");
}

#[test]
fn a_guest_that_does_not_read_holds_up_nobody_else() {
    let mut sockets = Sockets::start();
    let (full, mut full_end) = sockets.connect(GUEST_PORT);
    let (other, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(update(full, 10, 0), &[]);
    full_end.write_all(&pattern(100)).unwrap();
    assert_eq!(receive(&mut sockets, full, 10), pattern(10));
    end.write_all(b"hello").unwrap();
    assert_eq!(receive(&mut sockets, other, 5), b"hello");
    assert!(!sockets.has_heard());
}

#[test]
fn connections_take_turns() {
    let mut sockets = Sockets::start();
    let (busy, mut busy_end) = sockets.connect(GUEST_PORT);
    let (other, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(update(busy, u32::MAX, 0), &[]);
    // The device has no buffer when both have something for the guest.
    let heads: Vec<u16> = (0..64)
        .map(|_| {
            busy_end.write_all(&[1; 4096]).unwrap();
            sockets.take().0
        })
        .collect();
    busy_end.write_all(&vec![1; 64 << 10]).unwrap();
    end.write_all(&[2; 10]).unwrap();
    let mut from = Vec::new();
    for head in heads {
        sockets.give(head);
        from.push(sockets.take().1.src_port);
        if from.len() == 4 {
            break;
        }
    }
    assert!(
        from.contains(&other.dst_port),
        "{from:?} without {other:?}, {busy:?}"
    );
}

#[test]
fn no_more_is_sent_than_the_guest_has_room_for() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(update(sample, 0, 0), &[]);
    end.write_all(&pattern(20_000)).unwrap();
    sockets.send(update(sample, 9000, 0), &[]);
    assert_eq!(receive(&mut sockets, sample, 9000), pattern(9000));
    // Answers come in order: nothing was sent meanwhile.
    sockets.send(
        Header {
            op: op::CREDIT_REQUEST.into(),
            ..update(sample, 9000, 0)
        },
        &[],
    );
    expect(&mut sockets, sample, op::CREDIT_UPDATE);
    sockets.send(update(sample, 9000, 1000), &[]);
    assert_eq!(receive(&mut sockets, sample, 1000), pattern(10_000)[9000..]);
    sockets.send(update(sample, 4000, 5000), &[]);
    sockets.send(update(sample, u32::MAX, 5000), &[]);
    assert_eq!(
        receive(&mut sockets, sample, 10_000),
        pattern(20_000)[10_000..]
    );
}

#[test]
fn a_guest_without_buffers_gets_the_rest_when_it_has_some() {
    let mut sockets = Sockets::start();
    let (mut sample, mut end) = sockets.connect(GUEST_PORT);
    sample.buf_alloc = (1 << 20).into();
    sockets.send(on(sample, op::CREDIT_UPDATE), &[]);
    let data = pattern(600 << 10);
    let sent = data.clone();
    let writer = thread::spawn(move || end.write_all(&sent).map(|()| end));
    let mut first = Vec::new();
    let kept: Vec<u16> = (0..64)
        .map(|_| {
            let (buffer, _, data) = sockets.take();
            first.extend(data);
            buffer
        })
        .collect();
    assert!(!sockets.has_heard());
    for buffer in kept {
        sockets.give(buffer);
    }
    let rest = receive(&mut sockets, sample, data.len() - first.len());
    assert_eq!([first, rest].concat(), data);
    writer.join().unwrap().unwrap();
}

#[test]
fn a_guest_is_told_how_much_it_may_send_once_for_all_it_asked() {
    let mut sockets = Sockets::start();
    let (sample, _end) = sockets.connect(GUEST_PORT);
    let heads: Vec<u16> = (0..64)
        .map(|_| {
            sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
            sockets.take().0
        })
        .collect();
    for _ in 0..10_000 {
        sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
    }
    for head in heads {
        sockets.give(head);
    }
    expect(&mut sockets, sample, op::CREDIT_UPDATE);
    send(&mut sockets, sample, b"");
    assert!(!sockets.has_heard());
}

#[test]
fn a_header_may_lie_in_pieces() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = accepted(&mut sockets);
    let header = Header {
        len: 3.into(),
        ..on(sample, op::RW)
    };
    let page = sockets.driver.page();
    let bytes = [
        zerocopy::IntoBytes::as_bytes(&header),
        b"abc, and what nobody asked for",
    ]
    .concat();
    sockets.driver.write(page, &bytes);
    for n in 0..HEADER_BYTES as u16 {
        let gpa = page + u64::from(n);
        sockets.driver.set_descriptor(1, n, gpa, 1, NEXT, n + 1);
    }
    let last = HEADER_BYTES as u16;
    sockets
        .driver
        .set_descriptor(1, last, page + u64::from(last), 30, 0, 0);
    sockets.driver.offer(1, 0);
    assert_eq!(read_exactly(&mut end, 3), b"abc");
    assert_silent(&mut end);
}

#[test]
fn buffers_without_room_for_data_come_back_empty() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    let page = sockets.driver.page();
    let header = HEADER_BYTES as u32;
    sockets.driver.submit(0, &[], &[(page, 0)]);
    sockets.driver.submit(0, &[(page, 100)], &[]);
    sockets.driver.submit(0, &[], &[(page, header)]);
    sockets.driver.submit(0, &[], &[(page, 40), (page + 40, 5)]);
    let (stream, _end) = std::os::unix::net::UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    let written: Vec<_> = (0..4)
        .map(|_| sockets.driver.completed(0).written_bytes)
        .collect();
    assert_eq!(written, [0, 0, 0, header]);
}

#[test]
fn the_buffers_for_events_are_kept() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, sample, b"x");
    read_exactly(&mut end, 1);
    assert_eq!(sockets.driver.used_index(2), 0);
}
