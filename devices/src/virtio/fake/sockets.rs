//! A driver of the socket device: what Linux's `virtio_transport` does, packet by packet.

use std::os::unix::net::UnixStream;

use zerocopy::{FromBytes, IntoBytes};

use super::Driver;
use crate::virtio::vsock::packet::{HEADER_BYTES, Header, STREAM, op};
use crate::virtio::vsock::{self, HOST_CID, Host};

/// What the device sends, virtio 1.2 §5.10.2.
const RECEIVE: usize = 0;
/// What the guest sends.
const TRANSMIT: usize = 1;
const EVENT: usize = 2;

const BUFFERS: u64 = 64;
const PAGE_BYTES: u32 = 4096;

/// The guest's address.
const GUEST_CID: u32 = 3;

/// Room that a socket of Linux has unless told otherwise.
const BUF_ALLOC: u32 = 256 << 10;

/// The guest's side of a socket device.
pub struct Sockets {
    /// The driver beneath.
    pub driver: Driver,
    /// The host's end.
    pub host: Host,
    /// Bytes of each receive buffer, at most a page.
    pub buffer_bytes: u32,
    /// Pages by the head of their chain.
    pages: Vec<u64>,
    sent: u64,
}

/// A packet of the guest for the host, with the room of a fresh socket.
pub fn packet(op: u16, guest_port: u32, host_port: u32) -> Header {
    Header {
        src_cid: u64::from(GUEST_CID).into(),
        dst_cid: HOST_CID.into(),
        src_port: guest_port.into(),
        dst_port: host_port.into(),
        kind: STREAM.into(),
        op: op.into(),
        buf_alloc: BUF_ALLOC.into(),
        ..Header::default()
    }
}

impl Sockets {
    /// A device whose driver is not up.
    pub fn attach() -> Self {
        let mut end = None;
        let mut driver = Driver::attach(|memory| {
            let (device, host) = vsock::open(memory, GUEST_CID).unwrap();
            end = Some(host);
            device
        });
        driver.polite = true;
        Self {
            pages: (0..BUFFERS).map(|_| driver.page()).collect(),
            sent: driver.pages(257),
            driver,
            host: end.unwrap(),
            buffer_bytes: PAGE_BYTES,
        }
    }

    /// A device whose driver is up and has posted all its buffers.
    pub fn start() -> Self {
        let mut sockets = Self::attach();
        sockets.bring_up();
        sockets
    }

    /// Starts over, and posts all buffers.
    pub fn bring_up(&mut self) {
        self.driver.reset();
        self.driver.bring_up();
        self.post();
        for _ in 0..8 {
            self.driver.submit(EVENT, &[], &[(self.sent, 8)]);
        }
    }

    /// Posts all buffers, none of which the device has.
    pub fn post(&mut self) {
        for page in self.pages.clone() {
            self.driver
                .submit(RECEIVE, &[], &[(page, self.buffer_bytes)]);
        }
    }

    /// Sends a packet, and waits until the device has taken it.
    pub fn send(&mut self, header: Header, data: &[u8]) {
        self.submit(header, data);
        self.driver.completed(TRANSMIT);
    }

    /// Sends a packet with `data` behind it, at most 1 MiB, and does not wait. What its header
    /// says of its length is left as it is, unless that is zero.
    pub fn submit(&mut self, mut header: Header, data: &[u8]) {
        if header.len == 0 {
            header.len = (data.len() as u32).into();
        }
        let bytes = [header.as_bytes(), data].concat();
        self.driver.write(self.sent, &bytes);
        let buffer = (self.sent, bytes.len() as u32);
        self.driver.submit(TRANSMIT, &[buffer], &[]);
    }

    /// Waits for a packet, and gives its buffer back.
    pub fn hear(&mut self) -> (Header, Vec<u8>) {
        let (head, header, data) = self.take();
        self.give(head);
        (header, data)
    }

    /// Waits for a packet, and keeps its buffer.
    pub fn take(&mut self) -> (u16, Header, Vec<u8>) {
        let used = self.driver.completed(RECEIVE);
        let page = self.pages[usize::from(used.head)];
        let mut bytes = self.driver.read(page, used.written_bytes as usize);
        let data = bytes.split_off(HEADER_BYTES);
        (used.head, Header::read_from_bytes(&bytes).unwrap(), data)
    }

    /// Gives a buffer back.
    pub fn give(&mut self, head: u16) {
        self.driver.offer(RECEIVE, head);
    }

    /// Whether a packet has come.
    pub fn has_heard(&self) -> bool {
        self.driver.has_completed(RECEIVE)
    }

    /// A connection that the host makes to `port`, which the guest accepts: a packet of the guest
    /// on it, and the host's end.
    pub fn connect(&mut self, port: u32) -> (Header, UnixStream) {
        let (stream, end) = UnixStream::pair().unwrap();
        self.host.connect(port, stream).unwrap();
        let (request, _) = self.hear();
        assert_eq!(
            (request.op.get(), request.dst_port.get()),
            (op::REQUEST, port)
        );
        let response = packet(op::RESPONSE, port, request.src_port.get());
        self.send(response, &[]);
        (response, end)
    }
}
