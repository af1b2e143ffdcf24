#![expect(
    unsafe_code,
    reason = "unshare is safe for mounts alone, which its type does not say"
)]
//! Following process 1 to where it is: the stage 1 of a system mounts a root beside the initramfs and
//! goes there, and what the host wants to run is wanted there, too.
//!
//! The one thing to know: nobody says when that happens, so whoever starts a process looks. All is
//! done by one descriptor of `/proc`, since that is nowhere for a while.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode, OFlags, Stat, open, openat, stat, statat};
use rustix::io::Errno;
use rustix::process::{chdir, chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// What its root and its mounts are known by in `/proc`.
const ROOT: &str = "1/root";
const MOUNTS: &str = "1/ns/mnt";

static PROC: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps what is mounted, whatever process 1 does.
pub(super) fn part() -> Result<(), Errno> {
    proc()?;
    // SAFETY: of what processes share, this is about mounts alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Goes to the root that process 1 has, unless this process is there.
///
/// # Errors
/// It cannot go there. Who cannot even look is where it belongs: a test, on a host.
pub(super) fn join() -> Result<(), Errno> {
    let Ok((theirs, proc)) = proc().and_then(|proc| {
        let theirs = statat(proc, ROOT, AtFlags::empty())?;
        Ok((theirs, proc))
    }) else {
        return Ok(());
    };
    let file = |stat: &Stat| (stat.st_dev, stat.st_ino);
    if stat("/").is_ok_and(|own| file(&own) == file(&theirs)) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mounts = openat(proc, MOUNTS, flags, Mode::empty())?;
    let root = openat(proc, ROOT, flags | OFlags::PATH, Mode::empty())?;
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
    fchdir(root)?;
    chroot(".")?;
    chdir("/")
}

fn proc() -> Result<&'static OwnedFd, Errno> {
    if let Some(proc) = PROC.get() {
        return Ok(proc);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = open("/proc", flags, Mode::empty())?;
    Ok(PROC.get_or_init(|| proc))
}
