#![expect(
    unsafe_code,
    reason = "what loop devices are asked for is in no safe crate"
)]
//! A file as a disk that can be read, loop(4).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use linux_raw_sys::loop_device::{
    LO_FLAGS_AUTOCLEAR, LO_FLAGS_READ_ONLY, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config,
};
use rustix::io::Errno;

const CONTROL: &str = "/dev/loop-control";

/// The disk. The kernel takes it away once it is neither open nor mounted.
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Its device node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes one of a file.
pub(super) fn attach(file: &Path) -> Result<LoopDevice> {
    let file = File::open(file).context("cannot open it")?;
    let control = File::open(CONTROL).with_context(|| format!("cannot open {CONTROL}"))?;
    let number = free(control.as_fd()).context("cannot have a loop device")?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let open = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    configure(open.as_fd(), file.as_fd())
        .with_context(|| format!("cannot set {} up", path.display()))?;
    Ok(LoopDevice { path, _open: open })
}

/// The number of one that nobody uses.
fn free(control: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE.into()) } {
        -1 => Err(last_error()),
        number => Ok(number),
    }
}

fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: it has numbers alone, of which each may be zero.
    let mut config: loop_config = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd().unsigned_abs();
    config.info.lo_flags = LO_FLAGS_READ_ONLY as u32 | LO_FLAGS_AUTOCLEAR as u32;
    // SAFETY: LOOP_CONFIGURE reads such a structure, which lives until the call returns.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE.into(), &raw const config) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
