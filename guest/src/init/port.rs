//! Finding a port to the host.
//!
//! The one thing to know: a port gets its name by a message of the device some time after the
//! kernel has made it (`VIRTIO_CONSOLE_PORT_NAME`), and tells so by a uevent. virtio 1.2 §5.3.6.2.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

const PORTS: &str = "/sys/class/virtio-ports";

/// The group of the kernel's own uevents; the other is udev's.
const KERNEL_EVENTS: u32 = 1;

/// Opens the port called `name`; waits for it if it is not there yet.
pub(super) fn open(name: &str) -> Result<OwnedFd> {
    let name = match find(name)? {
        Some(found) => found,
        None => wait(name)?,
    };
    let path = format!("/dev/{name}");
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {path}"))
}

/// The kernel's name for the port `wanted`, such as `vport1p1`.
fn find(wanted: &str) -> Result<Option<String>> {
    let ports = match fs::read_dir(PORTS) {
        Ok(ports) => ports,
        // The class appears with its driver.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot list {PORTS}")),
    };
    for port in ports {
        let port = port.with_context(|| format!("cannot list {PORTS}"))?;
        // The file appears with the name; ports that stay without one have none.
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if name.trim_end() == wanted {
            return Ok(Some(port.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn wait(wanted: &str) -> Result<String> {
    let events = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(KOBJECT_UEVENT),
    )
    .context("cannot open a socket for uevents")?;
    bind(&events, &SocketAddrNetlink::new(0, KERNEL_EVENTS))
        .context("cannot listen for uevents")?;
    let mut event = [0; 4096];
    loop {
        // Once more before each wait: it may have come before the socket listened.
        if let Some(name) = find(wanted)? {
            return Ok(name);
        }
        match recv(&events, &mut event, RecvFlags::empty()) {
            // An overrun means that events were lost, so look again.
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for uevents"),
        }
    }
}
