//! A guest as a model: it keeps the rules, and fails where the device does not.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{HOST_PORT, on, shutdown};
use crate::virtio::fake::{Sockets, packet};
use crate::virtio::vsock::packet::{Header, Shutdown, op};

/// How long the end of all streams may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Byte number `n` of a stream that nothing else has.
fn byte(stream: usize, n: usize) -> u8 {
    (n.wrapping_mul(n) % 251 + stream * 57) as u8
}

fn bytes(stream: usize, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|n| byte(stream, n)).collect()
}

/// Bytes of one direction, which are known by their place.
#[derive(Default)]
struct Direction {
    stream: usize,
    written: usize,
    read: usize,
    ended: bool,
}

impl Direction {
    fn next(&self, count: usize) -> Vec<u8> {
        bytes(self.stream, self.written, count)
    }

    fn check(&mut self, heard: &[u8]) {
        assert!(
            heard == bytes(self.stream, self.read, heard.len()),
            "bytes are wrong"
        );
        self.read += heard.len();
        assert!(self.read <= self.written);
    }

    fn is_empty(&self) -> bool {
        self.read == self.written
    }
}

/// A connection: both of its ends, and what went into them.
pub struct Connection {
    sample: Header,
    end: UnixStream,
    to_guest: Direction,
    to_host: Direction,
    /// Arrived, and not read by the guest's program.
    unread: VecDeque<u8>,
    fwd_cnt: u32,
    /// The device's room, and what it has passed on.
    peer: (u32, u32),
    /// What the host does not do any more, as the guest was told.
    told: Shutdown,
    reset: bool,
}

impl Connection {
    fn packet(&self, op: u16) -> Header {
        Header {
            fwd_cnt: self.fwd_cnt.into(),
            ..on(self.sample, op)
        }
    }

    fn hear(&mut self, header: &Header, data: &[u8]) {
        self.peer = (header.buf_alloc.get(), header.fwd_cnt.get());
        match header.op.get() {
            op::RW => {
                assert!(!data.is_empty() && !self.told.contains(Shutdown::SEND));
                self.unread.extend(data);
                assert!(self.unread.len() <= self.sample.buf_alloc.get() as usize);
            }
            op::SHUTDOWN => {
                self.told = Shutdown::from_bits(header.flags.get()).unwrap();
                assert!(!self.told.contains(Shutdown::SEND) || self.to_guest.ended);
            }
            op => {
                assert!([op::CREDIT_UPDATE, op::RST].contains(&op), "{header:?}");
                self.reset |= op == op::RST;
            }
        }
    }

    fn credit(&self) -> usize {
        let (room, passed_on) = self.peer;
        let held = (self.to_host.written as u32).wrapping_sub(passed_on);
        room.saturating_sub(held) as usize
    }
}

/// A guest, its connections, and the host's ends of them.
pub struct Model {
    sockets: Sockets,
    connections: Vec<Connection>,
    /// Buffers that the guest keeps for a while.
    kept: Option<Vec<u16>>,
}

impl Model {
    /// A guest whose receive buffers have so many bytes, with connections whose room is given;
    /// every other one is made by the guest.
    pub fn new(buffer_bytes: u32, rooms: &[u32]) -> Self {
        let mut sockets = Sockets::attach();
        sockets.buffer_bytes = buffer_bytes;
        sockets.bring_up();
        let incoming = sockets.host.listen(HOST_PORT).unwrap();
        let mut connections = Vec::new();
        for (index, room) in rooms.iter().enumerate() {
            let (sample, end) = if index.is_multiple_of(2) {
                let (sample, end) = sockets.connect(100);
                (
                    Header {
                        buf_alloc: (*room).into(),
                        ..sample
                    },
                    end,
                )
            } else {
                let mut sample = packet(op::REQUEST, index as u32, HOST_PORT);
                sample.buf_alloc = (*room).into();
                sockets.send(sample, &[]);
                assert_eq!(sockets.hear().0.op, op::RESPONSE);
                (sample, incoming.recv().unwrap())
            };
            end.set_nonblocking(true).unwrap();
            sockets.send(on(sample, op::CREDIT_REQUEST), &[]);
            let (credit, _) = sockets.hear();
            connections.push(Connection {
                sample,
                end,
                to_guest: Direction {
                    stream: 2 * index,
                    ..Direction::default()
                },
                to_host: Direction {
                    stream: 2 * index + 1,
                    ..Direction::default()
                },
                unread: VecDeque::new(),
                fwd_cnt: 0,
                peer: (credit.buf_alloc.get(), 0),
                told: Shutdown::empty(),
                reset: false,
            });
        }
        Self {
            sockets,
            connections,
            kept: None,
        }
    }

    /// Takes all packets that have come.
    pub fn hear(&mut self) {
        while self.sockets.has_heard() {
            let (buffer, header, data) = self.sockets.take();
            match &mut self.kept {
                Some(kept) => kept.push(buffer),
                None => self.sockets.give(buffer),
            }
            let connection = self.connections.iter_mut().find(|connection| {
                let expected = connection.sample.reset();
                (header.src_port, header.dst_port) == (expected.src_port, expected.dst_port)
            });
            connection.unwrap().hear(&header, &data);
        }
    }

    /// The guest keeps the buffers that it gets from now on.
    pub fn keep_buffers(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The guest gives all buffers back.
    pub fn give_buffers(&mut self) {
        for buffer in self.kept.take().unwrap_or_default() {
            self.sockets.give(buffer);
        }
    }

    /// The guest writes, as much as there is credit for.
    pub fn guest_writes(&mut self, index: usize, count: usize) {
        let connection = &mut self.connections[index];
        let count = count.min(connection.credit());
        if connection.to_host.ended || count == 0 {
            return;
        }
        let data = connection.to_host.next(count);
        connection.to_host.written += count;
        let header = connection.packet(op::RW);
        self.sockets.send(header, &data);
    }

    /// The guest's program reads, and tells the device of the room.
    pub fn guest_reads(&mut self, index: usize, count: usize) {
        let connection = &mut self.connections[index];
        let count = count.min(connection.unread.len());
        let data: Vec<u8> = connection.unread.drain(..count).collect();
        connection.to_guest.check(&data);
        connection.fwd_cnt = connection.fwd_cnt.wrapping_add(count as u32);
        let header = connection.packet(op::CREDIT_UPDATE);
        self.sockets.send(header, &[]);
    }

    /// The guest sends no more.
    pub fn guest_ends(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.to_host.ended = true;
        let header = shutdown(connection.packet(op::SHUTDOWN), Shutdown::SEND);
        self.sockets.send(header, &[]);
    }

    /// The host writes, as much as its stream takes.
    pub fn host_writes(&mut self, index: usize, count: usize) {
        let connection = &mut self.connections[index];
        if connection.to_guest.ended {
            return;
        }
        match connection.end.write(&connection.to_guest.next(count)) {
            Ok(written) => connection.to_guest.written += written,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// The host reads, as much as there is; true at the end.
    pub fn host_reads(&mut self, index: usize, count: usize) -> bool {
        let connection = &mut self.connections[index];
        let mut data = vec![0; count];
        match connection.end.read(&mut data) {
            Ok(0) => {
                assert!(connection.to_host.ended && connection.to_host.is_empty());
                return true;
            }
            Ok(read) => connection.to_host.check(&data[..read]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        false
    }

    /// The host sends no more.
    pub fn host_ends(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.to_guest.ended = true;
        connection.end.shutdown(net::Shutdown::Write).unwrap();
    }

    /// Whether all bytes that were written have been read.
    fn is_quiet(&self) -> bool {
        let mut all = self.connections.iter();
        all.all(|connection| connection.to_guest.is_empty() && connection.to_host.is_empty())
    }

    /// Ends everything: all that was written arrives, and then both ends.
    pub fn finish(mut self) {
        self.give_buffers();
        for index in 0..self.connections.len() {
            self.guest_ends(index);
            self.host_ends(index);
        }
        for index in 0..self.connections.len() {
            self.until(|model| model.host_reads(index, 1 << 16));
            self.until(|model| {
                model.guest_reads(index, usize::MAX);
                model.connections[index].told.contains(Shutdown::SEND)
            });
        }
        assert!(self.is_quiet());
        for index in 0..self.connections.len() {
            let header = shutdown(self.connections[index].packet(0), Shutdown::all());
            self.sockets.send(header, &[]);
            self.until(|model| model.connections[index].reset);
        }
    }

    /// Hears until that is true; fails when it does not become so on a busy machine.
    fn until(&mut self, happened: impl Fn(&mut Self) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(start.elapsed() < PATIENCE, "nothing arrives any more");
            self.hear();
        }
    }
}
