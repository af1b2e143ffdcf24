#![expect(unsafe_code, reason = "the addresses of AF_VSOCK are in no safe crate")]
//! More connections of the host, besides the one that it has from the start: each is served by a
//! process of its own, so what goes wrong in one does not reach the others.
//!
//! The one thing to know: any program of the guest can connect here, too, and this runs as root. So
//! only the host is let in.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, listen, socket_with};

use super::process::{Streams, spawn};
use super::program::{Program, SELF};
use super::whereabouts;
use crate::protocol::{AGENT_PORT, Exec};

/// Connections that may wait to be taken: as many as may be opened at once by scripts.
const BACKLOG: i32 = 256;

/// Taken at a time, before other things have their turn.
const AT_ONCE: usize = 16;

/// What this program is started with to serve one connection, its standard input.
pub const SERVE: &str = "serve";

/// A socket that the host connects to.
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens at [`AGENT_PORT`]. `None` if this kernel has no such sockets.
    pub fn open() -> Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(None),
            Err(error) => return Err(error).context("cannot make a socket for the host"),
        };
        bind(&socket).context("cannot listen for the host")?;
        listen(&socket, BACKLOG).context("cannot listen for the host")?;
        Ok(Some(Self { socket }))
    }

    /// Readable when somebody wants to connect.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes those who wait, and has each served.
    pub(super) fn welcome(&self) {
        for _ in 0..AT_ONCE {
            match accept(&self.socket) {
                Ok((stream, libc::VMADDR_CID_HOST)) => {
                    if let Err(error) = serve_apart(&stream) {
                        // The host finds its connection closed. <3> is KERN_ERR.
                        let record = format!("<3>mvm-init: {error:#}\n");
                        let _ = std::fs::write("/dev/kmsg", record);
                    }
                }
                // Not the host: closed again.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Starts a process that serves `stream` and ends with it.
///
/// # Errors
/// The kernel has no process left.
pub fn serve_apart(stream: &OwnedFd) -> Result<()> {
    whereabouts::join().context("cannot follow process 1")?;
    let exec = Exec {
        argv: vec![SELF.into(), SERVE.into()],
        ..Exec::default()
    };
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/null")?;
    let program = Program::new(&exec).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    let streams = Streams {
        stdin: stream.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
        terminal: false,
    };
    spawn(&program, &streams).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    Ok(())
}

fn bind(socket: &OwnedFd) -> Result<()> {
    // SAFETY: plain data, for which all zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_port = AGENT_PORT;
    address.svm_cid = libc::VMADDR_CID_ANY;
    let size = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: reads an address of that size.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    ensure!(result == 0, io::Error::last_os_error());
    Ok(())
}

/// The next connection, and the address of who made it.
fn accept(socket: &OwnedFd) -> io::Result<(OwnedFd, u32)> {
    // SAFETY: plain data, for which all zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: writes an address of at most that size.
    let fd = unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut size,
            libc::SOCK_CLOEXEC,
        )
    };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, address.svm_cid))
}
