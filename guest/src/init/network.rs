//! The loopback interface.
//!
//! The one thing to know: the kernel gives it 127.0.0.1 and `::1` by itself once it is up
//! (`inetdev_event`). rtnetlink(7).

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};

/// The loopback interface is the first of each network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;

/// Sets the loopback interface up.
pub(super) fn raise_loopback() -> Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is the family's protocol 0.
        None,
    )
    .context("cannot open a netlink socket")?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request(), SendFlags::empty(), &kernel).context("cannot ask the kernel")?;
    let mut answer = [0; 256];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())
        .context("cannot hear the kernel's answer")?;
    match outcome(&answer[..length.min(answer.len())]) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(-errno).into()),
        None => bail!("the kernel's answer is no acknowledgement"),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg`: set the up flag, leave the others.
fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and port numbers: there is one request.
    message.extend([0; 8]);
    // Family and type: any.
    message.extend([0; 4]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    // Which flags to change.
    message.extend(IFF_UP.to_ne_bytes());
    message
}

/// The error number, negative or 0, of an `NLMSG_ERROR` message.
fn outcome(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?;
    let errno = answer.get(16..20)?;
    (kind == NLMSG_ERROR.to_ne_bytes())
        .then(|| i32::from_ne_bytes([errno[0], errno[1], errno[2], errno[3]]))
}
