//! Requests to the kernel's routing tables and interfaces: netlink(7), rtnetlink(7).
//!
//! The one thing to know: each is acknowledged before the next is sent, so errors name what they
//! are about. Leaves out dumps: what there is, is read from sysfs.

use anyhow::{Context, Result, bail};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// A socket to the kernel.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is the family's protocol 0.
            None,
        );
        socket.map(Self).context("cannot open a netlink socket")
    }

    /// Sends a request and waits for its acknowledgement.
    pub(super) fn request(&self, request: &Request) -> Result<()> {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        sendto(&self.0, &request.encode(), SendFlags::empty(), &kernel)
            .context("cannot ask the kernel")?;
        let mut answer = [0; 256];
        let (_, length) = recv(&self.0, &mut answer, RecvFlags::empty())
            .context("cannot hear the kernel's answer")?;
        match outcome(&answer[..length.min(answer.len())]) {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(-errno).into()),
            None => bail!("the kernel's answer is no acknowledgement"),
        }
    }
}

/// One request: its kind, and its body with attributes behind it.
pub(super) struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// `RTM_*`, and the fixed part of the body, in multiples of four bytes.
    pub(super) fn new(kind: u16, body: &[u8]) -> Self {
        Self {
            kind,
            body: body.to_vec(),
        }
    }

    /// With an attribute more (`struct rtattr`).
    #[must_use]
    pub(super) fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        // Addresses, names and numbers: a few bytes each.
        let length = 4 + value.len() as u16;
        self.body.extend(length.to_ne_bytes());
        self.body.extend(attribute.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn encode(&self) -> Vec<u8> {
        let length = (HEADER_BYTES + self.body.len()) as u32;
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        [
            &length.to_ne_bytes()[..],
            &self.kind.to_ne_bytes(),
            &flags.to_ne_bytes(),
            // Sequence and port numbers: there is one request at a time.
            &[0; 8],
            &self.body,
        ]
        .concat()
    }
}

/// The error number, negative or 0, of an `NLMSG_ERROR` message.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?;
    let errno = answer.get(16..20)?;
    (kind == NLMSG_ERROR.to_ne_bytes())
        .then(|| i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_begin_at_multiples_of_four() {
        let bytes = Request::new(16, &[1; 16])
            .with(3, b"eth0\0")
            .with(4, &[9; 4])
            .encode();
        assert_eq!(bytes.len(), 16 + 16 + 12 + 8);
        assert_eq!(bytes[..4], 52u32.to_ne_bytes());
        assert_eq!(bytes[32..34], 9u16.to_ne_bytes());
        assert_eq!(bytes[36..44], *b"eth0\0\0\0\0");
        assert_eq!(bytes[44..46], 8u16.to_ne_bytes());
    }
}
