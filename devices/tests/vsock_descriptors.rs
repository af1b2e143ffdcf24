//! Connections that have ended hold no descriptor, whoever ended them.
//!
//! Descriptors are counted for the whole process, so this is a program of its own with one test.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;

use devices::virtio::fake::{Sockets, packet};
use devices::virtio::vsock::packet::{Header, Shutdown, op};

const ROUNDS: usize = 300;

#[test]
fn connections_that_ended_hold_no_descriptor() {
    let mut sockets = Sockets::start();
    let incoming = sockets.host.listen(1024).unwrap();
    let before = descriptors();
    for _ in 0..ROUNDS {
        let (sample, end) = sockets.connect(5000);
        guest_closes(&mut sockets, sample, end);
        let (sample, end) = sockets.connect(5000);
        host_closes(&mut sockets, sample, end);
        let request = packet(op::REQUEST, 5000, 1024);
        sockets.send(request, &[]);
        assert_eq!(sockets.hear().0.op, op::RESPONSE);
        guest_closes(&mut sockets, request, incoming.recv().unwrap());
        refuse(&mut sockets);
    }
    assert_eq!(descriptors(), before);
}

fn guest_closes(sockets: &mut Sockets, mut packet: Header, mut end: UnixStream) {
    packet.op = op::SHUTDOWN.into();
    packet.flags = Shutdown::all().bits().into();
    sockets.send(packet, &[]);
    assert_eq!(sockets.hear().0.op, op::RST);
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

fn host_closes(sockets: &mut Sockets, mut packet: Header, end: UnixStream) {
    drop(end);
    let mut told = Shutdown::empty();
    while !told.is_all() {
        told |= Shutdown::from_bits(sockets.hear().0.flags.get()).unwrap();
    }
    packet.op = op::RST.into();
    sockets.send(packet, &[]);
}

fn refuse(sockets: &mut Sockets) {
    let (stream, mut end) = UnixStream::pair().unwrap();
    sockets.host.connect(5000, stream).unwrap();
    let (request, _) = sockets.hear();
    sockets.send(packet(op::RST, 5000, request.src_port.get()), &[]);
    assert_eq!(end.read(&mut [0]).unwrap(), 0);
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
