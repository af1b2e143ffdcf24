//! The socket at which the machine's program tells how it does (`sd_notify(3)`), for a host that
//! listens.
//!
//! The one thing to know: what comes is passed on and not understood here. Any program of the machine
//! may speak, as may any of a container's that tells its own manager.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context, Result};

use crate::protocol::{ByteString, Exec};

/// Has `mvm-init` listen.
pub const NOTIFY: &str = "notify";

/// Where it listens.
pub const SOCKET: &str = "/run/mvm/notify";

/// Bytes of what is told at once; systemd, too, ignores what is longer (`NOTIFY_BUFFER_MAX`).
pub const MAX: usize = 4096;

/// Stands behind each on standard output, and alone there once it listens.
pub const END: u8 = 0;

/// What the host has executed, as root. The agent is this program, wherever its file is.
pub fn execution() -> Exec {
    Exec {
        argv: ["/proc/self/exe", NOTIFY].map(ByteString::from).into(),
        ..Exec::default()
    }
}

/// Writes to standard output what is told, until that is closed.
pub(crate) fn run() -> Result<()> {
    let path = Path::new(SOCKET);
    let socket = listen(path).with_context(|| format!("cannot listen at {SOCKET}"))?;
    pass_on(&socket, io::stdout().lock()).context("cannot pass on what is told")
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    // Of one that was killed.
    let _ = fs::remove_file(path);
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(socket)
}

fn pass_on(socket: &UnixDatagram, mut out: impl Write) -> io::Result<()> {
    // One byte more shows that there are more.
    let mut bytes = [0; MAX + 1];
    let mut length = 0;
    loop {
        bytes[length] = END;
        out.write_all(&bytes[..=length])?;
        out.flush()?;
        length = loop {
            match socket.recv(&mut bytes) {
                Ok(length) if length <= MAX && !bytes[..length].contains(&END) => break length,
                // As systemd ignores them.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn all_but_what_is_too_long_or_has_a_nul_is_passed_on_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mvm/notify");
        for _ in 0..2 {
            let socket = listen(&path).unwrap();
            let (mut host, out) = UnixStream::pair().unwrap();
            let thread = thread::spawn(move || pass_on(&socket, out));
            let program = UnixDatagram::unbound().unwrap();
            let longest = [b'x'; MAX];
            for bytes in [
                &b"READY=1\nSTATUS=up"[..],
                b"a\0b",
                &[b'x'; MAX + 1],
                &longest,
                b"\xff",
            ] {
                program.send_to(bytes, &path).unwrap();
            }
            let mut expected = b"\0READY=1\nSTATUS=up\0".to_vec();
            expected.extend(longest);
            expected.extend(b"\0\xff\0");
            let mut heard = vec![0; expected.len()];
            host.read_exact(&mut heard).unwrap();
            assert_eq!(heard, expected);
            drop(host);
            program.send_to(b"nobody", &path).unwrap();
            assert!(thread.join().unwrap().is_err());
        }
    }
}
