//! UNIX sockets of the host that lead to the machine.
//!
//! The one thing to know: a socket's file outlives who was killed, and refuses connections then.
//! Such a file is replaced; any other file stays, and is an error.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen as start_listening,
    socket_with,
};

/// Clients that may wait to be taken; the kernel takes less if its own limit is less
/// (`net.core.somaxconn`).
pub const BACKLOG: i32 = 4096;

/// A socket that listens, and its file, which goes with it.
#[derive(Debug)]
pub struct UnixSocket {
    /// What listens.
    pub socket: OwnedFd,
    /// Removed when it is dropped.
    pub file: SocketFile,
}

/// The file of a socket; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The file itself, so that no other gets its number.
    held: File,
}

/// Listens at `path`, where this user alone can connect.
///
/// # Errors
/// There is something else, or no file can be made.
pub fn listen(path: &Path) -> anyhow::Result<UnixSocket> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path)?;
            bind(&socket, &address)?;
        }
        bound => bound?,
    }
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = open(path, flags, Mode::empty())?.into();
    start_listening(&socket, BACKLOG)?;
    let path = path.to_owned();
    Ok(UnixSocket {
        socket,
        file: SocketFile { path, held },
    })
}

/// Removes the file of a socket that nobody listens at.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let facts = fs::symlink_metadata(path)?;
    ensure!(
        facts.file_type().is_socket(),
        "there is a file that is no socket"
    );
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("cannot remove a socket that nobody listens at")
        }
        Err(error) => Err(error).context("somebody else has a socket there"),
        Ok(_) => bail!("somebody listens there"),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let own = self.held.metadata();
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|there| {
            own.is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        });
        if is_own {
            // One that is gone already needs not go.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_this_users_alone_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_one_has_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let UnixSocket { socket, file } = listen(&path).unwrap();
        drop(socket);
        assert!(UnixStream::connect(&path).is_err());
        let new = listen(&path).unwrap();
        // It is another's now.
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(new);
    }

    #[test]
    fn one_that_somebody_listens_at_and_any_other_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = listen(&path).unwrap();
        let error = listen(&path).unwrap_err().to_string();
        assert_eq!(error, "somebody listens there");
        drop(socket);
        fs::write(&path, "words").unwrap();
        let error = listen(&path).unwrap_err().to_string();
        assert_eq!(error, "there is a file that is no socket");
        assert_eq!(fs::read(&path).unwrap(), b"words");
    }
}
