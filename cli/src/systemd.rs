//! What systemd is told of a machine that is a service's main process (`sd_notify(3)`): one datagram
//! for each, to the socket that `$NOTIFY_SOCKET` names. `sockets.rs` is what it hands over.
//!
//! Our own few lines rather than a crate, as that is all of the protocol that is used. Inside the
//! emulated host the socket is out of reach; `emulator::notices` takes the words there.

mod sockets;

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use anyhow::{Context, Result};
use vmm::app::App;

pub use sockets::{KEEPER, MAX_SOCKETS, NAMES, Sockets};

use crate::emulator::notices;

/// Where systemd hears of its services.
pub const SOCKET: &str = "NOTIFY_SOCKET";

/// Whether systemd is process 1 of this host (`sd_booted(3)`).
pub fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether systemd has started this process as a service's.
pub fn is_service() -> bool {
    is_booted() && env::var_os(SOCKET).is_some()
}

/// How a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// It is ready to serve; once. With a line on it.
    Ready(&'a str),
    /// A line on how it does.
    Status(&'a str),
    /// It has not got stuck.
    Alive,
    /// It is about to end.
    Stopping,
}

/// The line on a machine that says nothing of itself.
pub fn up(app: &App) -> String {
    format!("Guest up, {} vCPU, {} MiB", app.vcpus, app.memory_mib())
}

/// Whether systemd waits for words that the service lives (`WatchdogSec=`).
pub fn is_watchdog() -> bool {
    env::var_os("WATCHDOG_USEC").is_some()
}

/// Tells systemd, if it started this process. Nobody else is to hear of it, so what fails is only
/// that systemd waits until it loses patience.
pub fn notify(notice: Notice<'_>) {
    let words = words(notice);
    if let Some(file) = notices::file() {
        let _ = notices::add(&file, &words);
    } else {
        let _ = send(&words);
    }
}

/// Sends a datagram, if there is anybody to take it.
///
/// # Errors
/// Nobody listens there.
pub fn send(words: &str) -> Result<()> {
    let Some(path) = env::var_os(SOCKET) else {
        return Ok(());
    };
    let bytes = path.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let address = address.with_context(|| format!("cannot use ${SOCKET}"))?;
    let socket = UnixDatagram::unbound().context("cannot make a socket")?;
    socket
        .send_to_addr(words.as_bytes(), &address)
        .with_context(|| format!("cannot send to ${SOCKET}"))?;
    Ok(())
}

fn words(notice: Notice<'_>) -> String {
    match notice {
        Notice::Ready(status) => format!("READY=1\nSTATUS={status}"),
        Notice::Status(status) => format!("STATUS={status}"),
        Notice::Alive => "WATCHDOG=1".into(),
        Notice::Stopping => "STOPPING=1\nSTATUS=The program has ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_what_the_service_is() {
        let app = App::new("web", vec!["sh".into()]);
        assert_eq!(
            words(Notice::Ready(&up(&app))),
            "READY=1\nSTATUS=Guest up, 1 vCPU, 256 MiB"
        );
    }
}
