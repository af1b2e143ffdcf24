//! Sockets that systemd has handed to a command which is carried out inside: it keeps them for the
//! process that owns QEMU, which fetches them when the machine asks for its ports.
//!
//! The one thing to know: a descriptor goes from one process of this kernel to another alone, so
//! those inside only hear of names, and of the socket at which the command hands the rest out.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};
use vmm::net::Handed;

use crate::systemd::MAX_SOCKETS;

/// Bytes of all names, as JSON: a name has 255 (`FDNAME_MAX`), each of which JSON may double.
const NAMES_MAX: usize = MAX_SOCKETS * (2 * 255 + 3) + 2;

/// Who may wait: one machine asks, and asks once.
const BACKLOG: i32 = 4;

/// For the command to answer, which has nothing else to do.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands sockets out as long as it lives.
pub struct Keeper {
    path: PathBuf,
}

impl Keeper {
    /// Hands out copies of `sockets` at a socket of its own at `path`.
    ///
    /// # Errors
    /// The socket or a thread cannot be made.
    pub fn new(path: PathBuf, sockets: Handed) -> Result<Self> {
        let cannot = || format!("cannot listen on {}", path.display());
        let socket = open().with_context(cannot)?;
        // Of a process that was killed and had this one's number.
        let _ = fs::remove_file(&path);
        bind(&socket, &SocketAddrUnix::new(&path)?).with_context(cannot)?;
        let keeper = Self { path };
        listen(&socket, BACKLOG)?;
        thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                while let Ok(client) = accept_with(&socket, SocketFlags::CLOEXEC) {
                    // One that has gone gets none.
                    let _ = give(&client, &sockets);
                }
            })
            .context("cannot start a thread")?;
        Ok(keeper)
    }

    /// Where it hands them out.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Each message is whole, with its descriptors.
fn open() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn give(client: &OwnedFd, sockets: &Handed) -> Result<()> {
    let names: Vec<_> = sockets.sockets().iter().map(|(name, _)| name).collect();
    let names = serde_json::to_vec(&names)?;
    let descriptors: Vec<_> = sockets.sockets().iter().map(|(_, fd)| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(
        control.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "there are too many sockets"
    );
    sendmsg(
        client,
        &[IoSlice::new(&names)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The sockets that the keeper at `path` has.
///
/// # Errors
/// Nobody hands any out there.
pub fn fetch(path: &Path) -> Result<Handed> {
    ask(path).context("cannot fetch the sockets that systemd has handed over")
}

fn ask(path: &Path) -> Result<Handed> {
    let socket = open()?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
    let mut names = vec![0; NAMES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        &socket,
        &mut [IoSliceMut::new(&mut names)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let names: Vec<String> = serde_json::from_slice(&names[..received.bytes])?;
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let sockets: Vec<OwnedFd> = messages.flatten().collect();
    ensure!(sockets.len() == names.len(), "some are missing");
    Handed::new(names.into_iter().zip(sockets).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_are_handed_out_by_their_names_as_long_as_their_keeper_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sockets");
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = [0, 1, 2].map(|nth: usize| listeners[nth].local_addr().unwrap());
        let names = ["web", "api", "web"].map(String::from);
        let sockets = names.into_iter().zip(listeners.map(OwnedFd::from));
        let sockets = Handed::new(sockets.collect()).unwrap();
        let keeper = Keeper::new(path.clone(), sockets).unwrap();

        for _ in 0..2 {
            let mut fetched = fetch(&path).unwrap();
            assert_eq!(fetched.take("web").unwrap().len(), 2);
            let api = TcpListener::from(fetched.take("api").unwrap().remove(0));
            let client = TcpStream::connect(ports[1]).unwrap();
            assert_eq!(api.accept().unwrap().1, client.local_addr().unwrap());
        }
        drop(keeper);
        let error = format!("{:#}", fetch(&path).unwrap_err());
        assert!(error.starts_with("cannot fetch the sockets"), "{error}");
    }
}
