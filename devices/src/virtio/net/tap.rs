//! The host's side of a network card as a tap interface (`Documentation/networking/tuntap.rst`,
//! `linux/if_tun.h`).
//!
//! Each read and write is one frame behind the header of virtio 1.2 §5.1.6, so that checksums and
//! the cutting of large frames are left to the host's kernel, or to its network card. What the host
//! may leave to the guest is set when its driver starts, by the features that it accepted.
#![expect(unsafe_code, reason = "ioctl on a tun file descriptor")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, ensure};
use libc::{c_ulong, ifreq};
use virtio_bindings::virtio_net as bit;
use zerocopy::IntoBytes;

use super::Backend;
use super::header::{ETHERNET_BYTES, HEADER_BYTES, Header};
use super::posted::Posted;
use crate::virtio::Buffers;

/// The device that makes taps.
const TUN: &str = "/dev/net/tun";

/// Frames with a header before each (`IFF_VNET_HDR`), without tun's own (`IFF_NO_PI`).
const FLAGS: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Features of the card that a tap has, besides those of every card.
const FEATURES: [u32; 8] = [
    bit::VIRTIO_NET_F_CSUM,
    bit::VIRTIO_NET_F_HOST_TSO4,
    bit::VIRTIO_NET_F_HOST_TSO6,
    bit::VIRTIO_NET_F_HOST_ECN,
    bit::VIRTIO_NET_F_GUEST_CSUM,
    bit::VIRTIO_NET_F_GUEST_TSO4,
    bit::VIRTIO_NET_F_GUEST_TSO6,
    bit::VIRTIO_NET_F_GUEST_ECN,
];

/// What the host may hand over undone (`TUNSETOFFLOAD`), by the guest's features.
const OFFLOADS: [(u32, u32); 4] = [
    (bit::VIRTIO_NET_F_GUEST_CSUM, libc::TUN_F_CSUM),
    (bit::VIRTIO_NET_F_GUEST_TSO4, libc::TUN_F_TSO4),
    (bit::VIRTIO_NET_F_GUEST_TSO6, libc::TUN_F_TSO6),
    (bit::VIRTIO_NET_F_GUEST_ECN, libc::TUN_F_TSO_ECN),
];

/// A tap interface, attached.
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Attaches to the tap `name`, which is made if there is none and then goes with this process. A
    /// `%d` in the name is a number of the kernel's choice.
    ///
    /// # Errors
    /// It is another kind of interface, somebody else is attached to it, or neither its owner nor
    /// `CAP_NET_ADMIN` is here.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let file = options
            .open(TUN)
            .with_context(|| format!("cannot open {TUN}"))?;
        let mut request = Request::new(name)?;
        // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which `request` is.
        unsafe { ioctl(&file, libc::TUNSETIFF, request.as_mut_ptr()) }
            .with_context(|| format!("cannot attach to the tap {name}"))?;
        let mut header_bytes = i32::try_from(HEADER_BYTES)?;
        // SAFETY: TUNSETVNETHDRSZ reads an `int`.
        unsafe { ioctl(&file, libc::TUNSETVNETHDRSZ, (&raw mut header_bytes).cast()) }
            .context("cannot set the size of a tap's header")?;
        Ok(Self {
            name: request.name(),
            file,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A `struct ifreq` with an interface's name and flags.
struct Request(ifreq);

impl Request {
    fn new(name: &str) -> anyhow::Result<Self> {
        let is_good = (1..libc::IFNAMSIZ).contains(&name.len()) && !name.contains('\0');
        ensure!(is_good, "{name:?} is no name of an interface");
        let mut ifr_name = [0; libc::IFNAMSIZ];
        for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        Ok(Self(ifreq {
            ifr_name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: FLAGS as i16,
            },
        }))
    }

    /// The name, which the kernel may have completed.
    fn name(&self) -> String {
        let bytes = self.0.ifr_name.iter().map(|byte| byte.cast_unsigned());
        let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&name).into_owned()
    }

    fn as_mut_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }
}

/// One `ioctl(2)`.
///
/// # Safety
/// `argument` is what `request` takes.
unsafe fn ioctl(file: &File, request: c_ulong, argument: *mut c_void) -> io::Result<()> {
    // SAFETY: the descriptor is open while `file` is borrowed; the rest is the caller's promise.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Backend for Tap {
    fn features(&self) -> u64 {
        FEATURES.iter().fold(0, |all, bit| all | 1 << bit)
    }

    fn start(&mut self, features: u64) -> anyhow::Result<()> {
        let accepted = OFFLOADS.iter().filter(|(bit, _)| features & 1 << bit != 0);
        let mut offloads = accepted.fold(0, |all, (_, offload)| all | offload);
        if offloads & libc::TUN_F_CSUM == 0 {
            // The kernel takes none without checksums.
            offloads = 0;
        }
        // SAFETY: TUNSETOFFLOAD takes a number, not a pointer.
        unsafe {
            ioctl(
                &self.file,
                libc::TUNSETOFFLOAD,
                offloads as usize as *mut c_void,
            )
        }
        .context("cannot set a tap's offloads")
    }

    fn stop(&mut self) {}

    fn close(&mut self) {}

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn send(&mut self, header: &Header, frame: &mut Buffers) -> io::Result<()> {
        let bytes = frame.remaining_bytes();
        let mut vectors = frame.vectors(bytes);
        if vectors.bytes() < bytes {
            // In more pieces than one call takes: Linux has at most 19. Dropped.
            return Ok(());
        }
        match vectors.writev_with(self.fd(), header.as_bytes()) {
            Err(error) if is_transient(&error) => Err(error),
            Err(error) if is_gone(&error) => Err(error),
            // The interface is down, or the kernel does not like the frame, which is dropped.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn has_ahead(&self) -> bool {
        false
    }

    fn next_bytes(&mut self, limit: usize) -> io::Result<Option<usize>> {
        // Known only when it has been read.
        Ok(Some(limit))
    }

    fn receive(&mut self, posted: &mut Posted) -> io::Result<Option<Header>> {
        let bytes = posted.vectors(usize::MAX).readv(self.fd())?;
        if bytes < HEADER_BYTES + ETHERNET_BYTES {
            return Err(io::ErrorKind::Interrupted.into());
        }
        posted.advance(bytes);
        // The kernel has written the header.
        Ok(None)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Whether the interface was removed (`EBADFD`).
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_interface_are_refused() {
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert!(Request::new(name).is_err(), "{name:?}");
        }
        assert!(Request::new("fifteen-letters").is_ok());
    }
}
