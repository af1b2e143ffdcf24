#![expect(unsafe_code, reason = "TIOCCONS is in no safe crate")]
//! The terminal of an execution: a pair from the guest's devpts. pty(7).
//!
//! The one thing to know: a read of the master ends with `EIO` once no process has the terminal
//! open, so the agent keeps its own end of the slave until the program has it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::mount::mount_bind;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::protocol::Tty;

/// Opens a terminal of this size, which `owner` may open again by its name. Returns the agent's end
/// (does not block) and the program's.
pub(super) fn open(tty: &Tty, owner: Option<u32>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    resize(&master, tty.rows, tty.cols)?;
    if let Some(uid) = owner {
        fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>)?;
    }
    Ok((master, slave))
}

/// Has whoever opens `/dev/console` open this terminal.
pub(super) fn become_console(master: &OwnedFd) -> Result<(), Errno> {
    let name = ptsname(master, Vec::new())?;
    mount_bind(&*name, "/dev/console")
}

/// Has what is written to the kernel's console device, by whatever path that is opened, go to this
/// terminal (`tty_ioctl(4)`). The kernel's own messages go on to the device.
pub(super) fn take_console(slave: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: TIOCCONS takes no argument.
    match unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCCONS) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

/// Changes the size; the kernel sends `SIGWINCH` to the foreground process group if it differs.
pub(super) fn resize(master: &OwnedFd, rows: u16, cols: u16) -> Result<(), Errno> {
    tcsetwinsize(
        master,
        Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

/// What is typed to end the input: twice, if a line has been begun, since the first only ends that.
/// Nothing when the program reads characters rather than lines, as it sees no end then.
pub(super) fn end_of_input(master: &OwnedFd, within_line: bool) -> Vec<u8> {
    match tcgetattr(master) {
        Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => {
            let character = modes.special_codes[SpecialCodeIndex::VEOF];
            vec![character; 1 + usize::from(within_line)]
        }
        _ => Vec::new(),
    }
}
