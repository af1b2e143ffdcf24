//! Sockets whose other end a program has that we start.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// A socket pair. The second end is not close-on-exec, for a program that is told its number on the
/// command line.
///
/// # Errors
/// The host has no descriptors left.
pub fn socket_pair() -> anyhow::Result<(UnixStream, OwnedFd)> {
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::empty(),
        None,
    );
    let (ours, theirs) = pair.context("cannot make a socket pair")?;
    fcntl_setfd(&ours, FdFlags::CLOEXEC)?;
    Ok((UnixStream::from(ours), theirs))
}

#[cfg(test)]
mod tests {
    use rustix::io::fcntl_getfd;

    use super::*;

    #[test]
    fn the_other_end_alone_outlives_an_exec() {
        let (ours, theirs) = socket_pair().unwrap();
        assert_eq!(fcntl_getfd(&ours).unwrap(), FdFlags::CLOEXEC);
        assert_eq!(fcntl_getfd(&theirs).unwrap(), FdFlags::empty());
    }
}
