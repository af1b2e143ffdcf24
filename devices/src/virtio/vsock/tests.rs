//! The socket device against guests and hosts that are slow, gone, or malicious.

mod connect;
mod data;
mod hostile;
mod model;
mod random;
mod shutdown;

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use super::packet::{Header, Shutdown, op};
use crate::virtio::fake::{Sockets, packet};

/// A port that the host listens on in these tests, and one of the guest's.
const HOST_PORT: u32 = 1024;
const GUEST_PORT: u32 = 5000;

/// Bytes that repeat nowhere near a page, a ring or a stream's buffer.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n * n % 251) as u8).collect()
}

fn read_exactly(end: &mut UnixStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    end.read_exact(&mut all).unwrap();
    all
}

fn read_to_end(end: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    end.read_to_end(&mut all).unwrap();
    all
}

/// The stream has nothing to read, and no end.
fn assert_silent(end: &mut UnixStream) {
    end.set_nonblocking(true).unwrap();
    let error = end.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    end.set_nonblocking(false).unwrap();
}

/// A packet on the connection that `sample` is one of.
fn on(sample: Header, op: u16) -> Header {
    Header {
        op: op.into(),
        ..sample
    }
}

fn shutdown(sample: Header, what: Shutdown) -> Header {
    Header {
        flags: what.bits().into(),
        ..on(sample, op::SHUTDOWN)
    }
}

/// Waits for a packet, which is of that kind and on the connection that `sample` is one of.
fn expect(sockets: &mut Sockets, sample: Header, op: u16) -> (Header, Vec<u8>) {
    let (header, data) = sockets.hear();
    assert_eq!(header.op, op, "{header:?}");
    let expected = sample.reset();
    assert_eq!(
        (
            header.src_cid,
            header.src_port,
            header.dst_cid,
            header.dst_port,
            header.kind
        ),
        (
            expected.src_cid,
            expected.src_port,
            expected.dst_cid,
            expected.dst_port,
            expected.kind
        )
    );
    (header, data)
}

/// Sends bytes to the host as a guest that has credit for them.
fn send(sockets: &mut Sockets, sample: Header, data: &[u8]) {
    sockets.send(on(sample, op::RW), data);
}

/// Bytes of the host, of which there are so many.
fn receive(sockets: &mut Sockets, sample: Header, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        all.extend(expect(sockets, sample, op::RW).1);
    }
    all
}

/// The device still serves: a new connection carries bytes both ways.
fn assert_serves(sockets: &mut Sockets) {
    use std::io::Write;
    let (sample, mut end) = sockets.connect(7777);
    end.write_all(b"ping").unwrap();
    assert_eq!(receive(sockets, sample, 4), b"ping");
    send(sockets, sample, b"pong");
    assert_eq!(read_exactly(&mut end, 4), b"pong");
    sockets.send(on(sample, op::RST), &[]);
    assert_eq!(read_to_end(&mut end), b"");
}

/// A connection that the guest makes, and the host's end of it.
fn accepted(sockets: &mut Sockets) -> (Header, UnixStream) {
    let incoming = sockets.host.listen(HOST_PORT).unwrap();
    let request = packet(op::REQUEST, GUEST_PORT, HOST_PORT);
    sockets.send(request, &[]);
    expect(sockets, request, op::RESPONSE);
    (request, incoming.recv().unwrap())
}
