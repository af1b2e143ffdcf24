//! Connections of the host to ports in the guest.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::endpoint::{Endpoint, Form};
use crate::protocol::{Connect, Side};

/// The end in the guest of the host's session `id`. Whether somebody is there shows later.
pub(super) fn dial(id: u32, wanted: Connect) -> Result<Endpoint, Errno> {
    let family = if wanted.address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, form) = if wanted.datagrams {
        (SocketType::DGRAM, Form::Datagrams)
    } else {
        (SocketType::STREAM, Form::Bytes)
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(family, kind, flags, None)?;
    if form == Form::Bytes {
        // What comes in one frame was written at once.
        set_tcp_nodelay(&socket, true)?;
    }
    let is_connecting = match connect(&socket, &wanted.address) {
        Ok(()) => false,
        Err(Errno::INPROGRESS) => true,
        Err(errno) => return Err(errno),
    };
    Ok(Endpoint::new(id, socket, form, Side::Guest, is_connecting))
}
