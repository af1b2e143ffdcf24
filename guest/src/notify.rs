//! The socket at which the machine's program tells how it does (`sd_notify(3)`), for a host that
//! listens.
//!
//! The one thing to know: what comes is passed on and not understood here. Any program of the machine
//! may speak, as may any of a container's that tells its own manager.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{Context, Result};

use crate::protocol::{ByteString, Exec};

/// Has `mvm-init` listen.
pub const NOTIFY: &str = "notify";

/// Where it listens.
const SOCKET: &str = "/run/mvm/notify";

/// Where it listens to a system whose stage 1 mounts another `/run`, and where no file can be made: at a
/// name that is in no file system, as `$NOTIFY_SOCKET` has it.
const NAMED_SOCKET: &str = "@mvm/notify";

/// Bytes of what is told at once; systemd, too, ignores what is longer (`NOTIFY_BUFFER_MAX`).
pub const MAX: usize = 4096;

/// Stands behind each on standard output, and alone there once it listens.
pub const END: u8 = 0;

/// Where it listens: `is_named` where that is no file.
pub fn socket(is_named: bool) -> &'static str {
    if is_named { NAMED_SOCKET } else { SOCKET }
}

/// What the host has executed, as root. The agent is this program, wherever its file is.
pub fn execution(is_named: bool) -> Exec {
    let argv = ["/proc/self/exe", NOTIFY, socket(is_named)];
    Exec {
        argv: argv.map(ByteString::from).into(),
        ..Exec::default()
    }
}

/// Writes to standard output what is told, until that is closed.
pub(crate) fn run(socket: &Path) -> Result<()> {
    let listening = listen(socket);
    let socket = listening.with_context(|| format!("cannot listen at {}", socket.display()))?;
    pass_on(&socket, io::stdout().lock()).context("cannot pass on what is told")
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    if let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") {
        return UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?);
    }
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

    #[test]
    fn a_name_without_a_file_is_listened_at() {
        let name = format!("@mvm-test/{}", std::process::id());
        let socket = listen(Path::new(&name)).unwrap();
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.send_to_addr(b"READY=1", &address).unwrap();
        let mut heard = [0; 16];
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        assert!(!Path::new(&name).exists());
    }
}
