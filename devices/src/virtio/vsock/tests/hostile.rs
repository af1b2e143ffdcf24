//! Guests that break the rules: they harm the connection they break, or themselves.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use zerocopy::IntoBytes;

use super::{
    GUEST_PORT, HOST_PORT, accepted, assert_serves, expect, on, pattern, read_exactly, read_to_end,
    receive, send, shutdown,
};
use crate::virtio::fake::{HOLE, Sockets, packet};
use crate::virtio::vsock::packet::{HEADER_BYTES, Header, Shutdown, op};
use crate::virtio::vsock::{CONNECTIONS_MAX, RECEIVE, TRANSMIT};

/// What breaks an open connection, of which `header` is a packet.
fn assert_breaks(change: impl Fn(&mut Header), data: &[u8]) {
    let mut sockets = Sockets::start();
    let (other, mut other_end) = sockets.connect(GUEST_PORT);
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, sample, b"before");
    let mut header = on(sample, op::RW);
    change(&mut header);
    sockets.send(header, data);
    expect(&mut sockets, sample, op::RST);
    assert_eq!(read_to_end(&mut end), b"before");
    // What comes later is for nobody.
    send(&mut sockets, sample, b"after");
    expect(&mut sockets, sample, op::RST);
    send(&mut sockets, other, b"unharmed");
    assert_eq!(read_exactly(&mut other_end, 8), b"unharmed");
    assert_serves(&mut sockets);
}

#[test]
fn more_than_there_is_credit_for_breaks_the_connection() {
    assert_breaks(|_| {}, &pattern((256 << 10) + 1));
}

#[test]
fn data_where_the_device_does_not_reach_breaks_the_connection() {
    let mut sockets = Sockets::start();
    let (other, mut other_end) = sockets.connect(GUEST_PORT);
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    send(&mut sockets, sample, b"before");
    let header = Header {
        len: 8.into(),
        ..on(sample, op::RW)
    };
    let page = sockets.driver.page();
    sockets.driver.write(page, header.as_bytes());
    let head = HEADER_BYTES as u32;
    let packet = [(page, head + 4), (HOLE, 4)];
    sockets.driver.submit(TRANSMIT, &packet, &[]);
    sockets.driver.completed(TRANSMIT);
    expect(&mut sockets, sample, op::RST);
    assert_eq!(read_to_end(&mut end), b"before");
    send(&mut sockets, other, b"unharmed");
    assert_eq!(read_exactly(&mut other_end, 8), b"unharmed");
    assert_serves(&mut sockets);
}

#[test]
fn buffers_where_the_device_does_not_reach_come_back_empty() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    for _ in 0..64 {
        sockets.driver.submit(RECEIVE, &[], &[(HOLE, 4096)]);
    }
    // Whose buffers are popped when there is something to say.
    let (stream, _end) = UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    for _ in 0..64 {
        assert_eq!(sockets.driver.completed(RECEIVE).written_bytes, 0);
    }
    sockets.post();
    assert_eq!(sockets.hear().0.op, op::REQUEST);
}

#[test]
fn a_length_beyond_the_buffers_breaks_the_connection() {
    for len in [5, 1 << 16, u32::MAX] {
        assert_breaks(|header| header.len = len.into(), b"four");
    }
}

#[test]
fn reading_what_was_never_sent_breaks_the_connection() {
    for fwd_cnt in [1, 1 << 31, u32::MAX] {
        for kind in [op::RW, op::CREDIT_UPDATE, op::CREDIT_REQUEST, op::SHUTDOWN] {
            assert_breaks(
                |header| {
                    header.op = kind.into();
                    header.fwd_cnt = fwd_cnt.into();
                },
                b"",
            );
        }
    }
}

#[test]
fn operations_out_of_order_break_the_connection() {
    for kind in [0, op::REQUEST, op::RESPONSE, 8, 0x100, u16::MAX] {
        assert_breaks(|header| header.op = kind.into(), b"");
    }
}

#[test]
fn other_kinds_of_socket_break_the_connection() {
    for kind in [0, 2, 3, u16::MAX] {
        assert_breaks(|header| header.kind = kind.into(), b"data");
    }
}

#[test]
fn data_after_the_end_breaks_the_connection() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    sockets.send(shutdown(sample, Shutdown::SEND), &[]);
    send(&mut sockets, sample, b"one more thing");
    expect(&mut sockets, sample, op::RST);
    assert_eq!(read_to_end(&mut end), b"");
}

#[test]
fn data_before_the_connection_is_open_breaks_it() {
    for kind in [op::RW, op::SHUTDOWN, op::REQUEST] {
        let mut sockets = Sockets::start();
        let (stream, mut end) = UnixStream::pair().unwrap();
        sockets.host.connect(GUEST_PORT, stream).unwrap();
        let (request, _) = sockets.hear();
        let sample = packet(kind, GUEST_PORT, request.src_port.get());
        sockets.send(sample, &[]);
        expect(&mut sockets, sample, op::RST);
        assert_eq!(read_to_end(&mut end), b"");
    }
}

#[test]
fn a_request_that_has_read_before_it_connected_is_refused() {
    let mut sockets = Sockets::start();
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    let mut request = packet(op::REQUEST, GUEST_PORT, HOST_PORT);
    request.fwd_cnt = 1.into();
    sockets.send(request, &[]);
    expect(&mut sockets, request, op::RST);
    assert_eq!(read_to_end(&mut incoming.recv().unwrap()), b"");
}

#[test]
fn addresses_of_others_reach_nobody() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = accepted(&mut sockets);
    for cid in [0, 1, 2, 4, 1 << 32 | 3, u64::MAX] {
        for kind in 0..9 {
            let spoofed = Header {
                src_cid: cid.into(),
                ..on(sample, kind)
            };
            sockets.send(spoofed, b"from somebody else");
        }
    }
    assert!(!sockets.has_heard());
    for cid in [0, 1, 3, 42, 1 << 32 | 2, u64::MAX] {
        for kind in [op::REQUEST, op::RW, op::SHUTDOWN] {
            let elsewhere = Header {
                dst_cid: cid.into(),
                ..on(sample, kind)
            };
            sockets.send(elsewhere, b"for somebody else");
            expect(&mut sockets, elsewhere, op::RST);
        }
        sockets.send(
            Header {
                dst_cid: cid.into(),
                ..on(sample, op::RST)
            },
            &[],
        );
    }
    send(&mut sockets, sample, b"unharmed");
    assert_eq!(read_exactly(&mut end, 8), b"unharmed");
    assert!(!sockets.has_heard());
}

#[test]
fn packets_without_a_connection_are_refused() {
    let mut sockets = Sockets::start();
    let _incoming = sockets.host.listen(HOST_PORT).unwrap();
    for kind in [0, 2, 4, 5, 6, 7, 8, u16::MAX] {
        let stray = packet(kind, GUEST_PORT, HOST_PORT);
        sockets.send(stray, b"data");
        expect(&mut sockets, stray, op::RST);
    }
    let mut request = packet(op::REQUEST, GUEST_PORT, HOST_PORT);
    request.kind = 2.into();
    sockets.send(request, &[]);
    let (reply, _) = sockets.hear();
    assert_eq!((reply.op.get(), reply.kind.get()), (op::RST, 1));
}

#[test]
fn a_storm_of_resets_is_not_answered() {
    let mut sockets = Sockets::start();
    for port in 0..5000 {
        sockets.send(packet(op::RST, port, HOST_PORT), &[]);
    }
    assert!(!sockets.has_heard());
    assert_serves(&mut sockets);
}

#[test]
fn a_header_that_is_cut_short_makes_the_device_need_a_reset() {
    for bytes in [0, 1, HEADER_BYTES - 1] {
        let mut sockets = Sockets::start();
        let page = sockets.driver.page();
        sockets
            .driver
            .submit(1, &[(page, bytes as u32)], &[(page, 64)]);
        sockets.driver.faulted();
        sockets.bring_up();
        assert_serves(&mut sockets);
    }
}

#[test]
fn a_guest_that_takes_no_answers_stops_itself_and_gets_all_of_them_later() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    for port in 0..256 {
        sockets.send(packet(op::RW, port, HOST_PORT), &[]);
    }
    let taken = sockets.driver.used_index(1);
    sockets.submit(packet(op::RW, 256, HOST_PORT), &[]);
    // Time to do what it must not.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(sockets.driver.used_index(1), taken);
    sockets.post();
    for port in 0..=256 {
        expect(&mut sockets, packet(op::RW, port, HOST_PORT), op::RST);
    }
    sockets.driver.completed(1);
    assert_serves(&mut sockets);
}

#[test]
fn the_same_stray_packet_over_and_over_gets_one_answer_at_a_time() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    let stray = packet(op::RW, GUEST_PORT, HOST_PORT);
    for _ in 0..5000 {
        sockets.send(stray, &[]);
    }
    sockets.post();
    expect(&mut sockets, stray, op::RST);
    assert!(!sockets.has_heard());
    assert_serves(&mut sockets);
}

#[test]
fn a_flood_of_requests_gets_so_many_connections_and_no_more() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    let mut ends = Vec::new();
    for port in 0..4000 {
        let request = packet(op::REQUEST, port, HOST_PORT);
        sockets.send(request, &[]);
        let expected = if ends.len() + 1 < CONNECTIONS_MAX {
            op::RESPONSE
        } else {
            op::RST
        };
        expect(&mut sockets, request, expected);
        ends.extend(incoming.try_recv());
    }
    assert_eq!(ends.len() + 1, CONNECTIONS_MAX);
    let (stream, mut refused) = UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    assert_eq!(read_to_end(&mut refused), b"");
    // The connection that was there before lives.
    end.write_all(b"still here").unwrap();
    assert_eq!(receive(&mut sockets, sample, 10), b"still here");
    for port in 0..4000 {
        sockets.send(packet(op::RST, port, HOST_PORT), &[]);
    }
    assert_serves(&mut sockets);
}

#[test]
fn connections_beyond_the_first_have_less_room() {
    let mut sockets = Sockets::start();
    let room: Vec<(Header, UnixStream, u32)> = (0..200)
        .map(|_| {
            let (sample, end) = sockets.connect(GUEST_PORT);
            sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
            let (header, _) = expect(&mut sockets, sample, op::CREDIT_UPDATE);
            (sample, end, header.buf_alloc.get())
        })
        .collect();
    let wide = room
        .iter()
        .filter(|(_, _, room)| *room == 256 << 10)
        .count();
    let narrow = room.iter().filter(|(_, _, room)| *room == 16 << 10).count();
    assert_eq!((wide, narrow), (192, 8));
    sockets.send(on(room[0].0, op::RST), &[]);
    assert_eq!(read_to_end(&mut &room[0].1), b"");
    let (sample, _end) = sockets.connect(GUEST_PORT);
    sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
    let (header, _) = expect(&mut sockets, sample, op::CREDIT_UPDATE);
    assert_eq!(header.buf_alloc, 256 << 10);
}

#[test]
fn a_guest_that_connects_and_resets_without_end_leaves_nothing() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    for _ in 0..5000 {
        sockets.send(packet(op::REQUEST, GUEST_PORT, HOST_PORT), &[]);
        sockets.send(packet(op::RST, GUEST_PORT, HOST_PORT), &[]);
        assert_eq!(read_to_end(&mut incoming.recv().unwrap()), b"");
    }
    sockets.post();
    assert_serves(&mut sockets);
    assert!(!sockets.has_heard());
}
