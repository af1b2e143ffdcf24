//! How connections come about, and do not.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::{
    GUEST_PORT, HOST_PORT, accepted, assert_serves, assert_silent, expect, on, read_exactly,
    read_to_end, receive, send,
};
use crate::virtio::fake::{Sockets, packet};
use crate::virtio::vsock::packet::{Header, op};
use crate::virtio::vsock::{CONNECTIONS_MAX, HOST_CID};

fn assert_carries(sockets: &mut Sockets, sample: Header, end: &mut UnixStream) {
    send(sockets, sample, b"from the guest");
    assert_eq!(read_exactly(end, 14), b"from the guest");
    end.write_all(b"from the host").unwrap();
    assert_eq!(receive(sockets, sample, 13), b"from the host");
}

#[test]
fn the_host_connects() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = sockets.connect(GUEST_PORT);
    assert_carries(&mut sockets, sample, &mut end);
}

#[test]
fn the_guest_connects() {
    let mut sockets = Sockets::start();
    let (sample, mut end) = accepted(&mut sockets);
    assert_carries(&mut sockets, sample, &mut end);
}

#[test]
fn the_guest_knows_its_address() {
    let sockets = Sockets::attach();
    assert_eq!(sockets.driver.register(0x008), 19);
    assert_eq!(sockets.driver.register(0x100), 3);
    assert_eq!(sockets.driver.register(0x104), 0);
}

#[test]
fn a_request_says_who_asks_and_how_much_may_be_sent() {
    let mut sockets = Sockets::start();
    let (stream, _end) = UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    let (request, data) = sockets.hear();
    assert_eq!(data, b"");
    let expected = Header {
        src_cid: HOST_CID.into(),
        dst_cid: 3.into(),
        src_port: request.src_port,
        dst_port: GUEST_PORT.into(),
        len: 0.into(),
        kind: 1.into(),
        op: 1.into(),
        flags: 0.into(),
        buf_alloc: (256 << 10).into(),
        fwd_cnt: 0.into(),
    };
    assert_eq!(request, expected);
}

#[test]
fn two_connections_to_one_port_are_two() {
    let mut sockets = Sockets::start();
    let (first, mut first_end) = sockets.connect(GUEST_PORT);
    let (second, mut second_end) = sockets.connect(GUEST_PORT);
    assert_ne!(first.dst_port, second.dst_port);
    assert_carries(&mut sockets, second, &mut second_end);
    assert_carries(&mut sockets, first, &mut first_end);
}

#[test]
fn what_was_written_before_the_guest_accepted_arrives() {
    let mut sockets = Sockets::start();
    let (stream, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"early").unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    let (request, _) = sockets.hear();
    let sample = packet(op::RESPONSE, GUEST_PORT, request.src_port.get());
    assert!(!sockets.has_heard());
    sockets.send(sample, &[]);
    assert_eq!(receive(&mut sockets, sample, 5), b"early");
}

#[test]
fn a_guest_that_refuses_closes_the_stream() {
    let mut sockets = Sockets::start();
    let (stream, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"never read").unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    let (request, _) = sockets.hear();
    sockets.send(packet(op::RST, GUEST_PORT, request.src_port.get()), &[]);
    assert_eq!(read_to_end(&mut end), b"");
    assert_serves(&mut sockets);
}

#[test]
fn ports_that_nobody_listens_on_are_refused() {
    let mut sockets = Sockets::start();
    for port in [0, 1, 22, HOST_PORT, 1 << 30, u32::MAX] {
        let request = packet(op::REQUEST, GUEST_PORT, port);
        sockets.send(request, &[]);
        let (reply, _) = expect(&mut sockets, request, op::RST);
        assert_eq!(reply, request.reset());
    }
}

#[test]
fn a_port_that_nobody_listens_on_any_more_is_refused() {
    let mut sockets = Sockets::start();
    drop(sockets.host.listen(HOST_PORT).unwrap());
    let request = packet(op::REQUEST, GUEST_PORT, HOST_PORT);
    sockets.send(request, &[]);
    expect(&mut sockets, request, op::RST);
    let (sample, mut end) = accepted(&mut sockets);
    assert_carries(&mut sockets, sample, &mut end);
}

#[test]
fn a_listener_that_does_not_keep_up_has_a_bounded_queue() {
    let mut sockets = Sockets::start();
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    let replies: Vec<u16> = (0..130)
        .map(|port| {
            sockets.send(packet(op::REQUEST, port, HOST_PORT), &[]);
            sockets.hear().0.op.get()
        })
        .collect();
    assert_eq!(replies[..128], [op::RESPONSE; 128]);
    assert_eq!(replies[128..], [op::RST; 2]);
    assert_eq!(incoming.try_iter().count(), 128);
}

#[test]
fn a_connection_that_comes_before_the_driver_waits_for_it() {
    let mut sockets = Sockets::attach();
    let (stream, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"exec").unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    sockets.bring_up();
    let (request, _) = sockets.hear();
    let sample = packet(op::RESPONSE, GUEST_PORT, request.src_port.get());
    sockets.send(sample, &[]);
    assert_eq!(receive(&mut sockets, sample, 4), b"exec");
}

#[test]
fn a_connection_that_comes_before_the_buffers_waits_for_them() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    let (stream, _end) = UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    sockets.post();
    assert_eq!(sockets.hear().0.op, op::REQUEST);
}

#[test]
fn only_so_many_connections_wait() {
    let sockets = Sockets::attach();
    let (_end, stream) = UnixStream::pair().unwrap();
    let connect = |_| sockets.host.connect(1, stream.try_clone().unwrap()).is_ok();
    let results: Vec<_> = (0..CONNECTIONS_MAX + 2).map(connect).collect();
    assert!(results[..CONNECTIONS_MAX].iter().all(|waits| *waits));
    assert_eq!(results[CONNECTIONS_MAX..], [false, false]);
}

#[test]
fn a_reset_closes_all_streams() {
    let mut sockets = Sockets::start();
    let (_, mut first) = sockets.connect(GUEST_PORT);
    let (_, mut second) = accepted(&mut sockets);
    sockets.driver.reset();
    assert_eq!(read_to_end(&mut first), b"");
    assert_eq!(read_to_end(&mut second), b"");
    sockets.bring_up();
    assert_serves(&mut sockets);
}

#[test]
fn listeners_outlive_a_reset() {
    let mut sockets = Sockets::start();
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    sockets.bring_up();
    let request = packet(op::REQUEST, GUEST_PORT, HOST_PORT);
    sockets.send(request, &[]);
    expect(&mut sockets, request, op::RESPONSE);
    assert_carries(&mut sockets, request, &mut incoming.recv().unwrap());
}

#[test]
fn a_driver_that_breaks_the_protocol_closes_all_streams_until_it_recovers() {
    let mut sockets = Sockets::start();
    let (_, mut end) = sockets.connect(GUEST_PORT);
    sockets.driver.set_avail_index(1, 4000);
    sockets.driver.faulted();
    assert_eq!(read_to_end(&mut end), b"");
    let (stream, _end) = UnixStream::pair().unwrap();
    let error = sockets.host.connect(GUEST_PORT, stream).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot connect to port 5000 of the guest: its driver broke the protocol"
    );
    sockets.bring_up();
    assert_serves(&mut sockets);
}

#[test]
fn a_device_that_is_gone_says_so() {
    let (stream, mut end) = UnixStream::pair().unwrap();
    let Sockets { driver, host, .. } = Sockets::attach();
    let incoming = host.listen(HOST_PORT).unwrap();
    host.connect(GUEST_PORT, stream).unwrap();
    drop(driver);
    assert_eq!(read_to_end(&mut end), b"");
    assert!(incoming.recv().is_err());
    assert!(host.listen(HOST_PORT).is_err());
    let (stream, _end) = UnixStream::pair().unwrap();
    assert!(host.connect(GUEST_PORT, stream).is_err());
}

#[test]
fn a_connection_that_was_given_up_before_the_guest_knew_of_it_is_forgotten() {
    let mut sockets = Sockets::attach();
    sockets.driver.bring_up();
    for _ in 0..3 * CONNECTIONS_MAX {
        let connect = || {
            let (stream, _end) = UnixStream::pair().unwrap();
            sockets.host.connect(GUEST_PORT, stream)
        };
        // Until the device has forgotten enough of those before.
        while connect().is_err() {}
    }
    let (stream, _end) = UnixStream::pair().unwrap();
    sockets.host.connect(7777, stream).unwrap();
    sockets.post();
    // A few may be asked for before the device sees that they were given up.
    while sockets.hear().0.dst_port != 7777 {}
}

#[test]
fn a_connection_that_was_given_up_before_the_guest_accepted_is_reset() {
    let mut sockets = Sockets::start();
    let (stream, end) = UnixStream::pair().unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    let (request, _) = sockets.hear();
    drop(end);
    let sample = packet(op::RESPONSE, GUEST_PORT, request.src_port.get());
    expect(&mut sockets, sample, op::RST);
    sockets.send(sample, &[]);
    expect(&mut sockets, sample, op::RST);
}

#[test]
fn a_host_that_wrote_and_left_before_the_guest_accepted_is_heard() {
    let mut sockets = Sockets::start();
    let (stream, mut end) = UnixStream::pair().unwrap();
    end.write_all(b"do this").unwrap();
    sockets.host.connect(GUEST_PORT, stream).unwrap();
    drop(end);
    let (request, _) = sockets.hear();
    let sample = packet(op::RESPONSE, GUEST_PORT, request.src_port.get());
    sockets.send(sample, &[]);
    assert_eq!(receive(&mut sockets, sample, 7), b"do this");
    let (header, _) = expect(&mut sockets, sample, op::SHUTDOWN);
    assert_eq!(header.flags, 3);
}

#[test]
fn a_port_pair_can_be_used_again() {
    let mut sockets = Sockets::start();
    for _ in 0..100 {
        let (sample, mut end) = accepted(&mut sockets);
        assert_carries(&mut sockets, sample, &mut end);
        sockets.send(on(sample, op::RST), &[]);
        assert_eq!(read_to_end(&mut end), b"");
    }
}

#[test]
fn many_threads_connect_at_once() {
    let mut sockets = Sockets::start();
    let host = sockets.host.clone();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let connect = |_| {
                        let (stream, end) = UnixStream::pair().unwrap();
                        host.connect(GUEST_PORT, stream).unwrap();
                        end
                    };
                    (0..25).map(connect).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let samples: Vec<_> = (0..200)
        .map(|_| {
            let (request, _) = sockets.hear();
            packet(op::RESPONSE, GUEST_PORT, request.src_port.get())
        })
        .collect();
    for (n, sample) in (0u8..).zip(&samples) {
        sockets.send(*sample, &[]);
        send(&mut sockets, *sample, &[n]);
    }
    let mut heard: Vec<u8> = ends
        .into_iter()
        .map(|mut end| {
            let byte = read_exactly(&mut end, 1)[0];
            assert_silent(&mut end);
            byte
        })
        .collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..200).collect::<Vec<u8>>());
}
