//! The lock on a volume's file, and who holds it.
//!
//! `flock` rather than a lock of `fcntl`: `/proc/locks` says who has it, and block devices that are
//! locked so are left alone by udev.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

use crate::app::quote::one_line;

/// Takes the lock: for this process alone, or with others that only read.
///
/// # Errors
/// Another process has it; the message names it if it can be found out.
pub fn lock(file: &File, shared: bool) -> anyhow::Result<()> {
    let operation = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => match holder(file) {
            Some(holder) => bail!("it is in use by {holder}"),
            None => bail!("it is in use by another process"),
        },
        Err(error) => Err(error).context("cannot lock it"),
    }
}

/// The process that has the lock, where `/proc` tells.
fn holder(file: &File) -> Option<String> {
    let facts = file.metadata().ok()?;
    let (dev, ino) = (facts.dev(), facts.ino());
    let wanted = format!("{:02x}:{:02x}:{ino}", major(dev), minor(dev));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 4711 08:01:123 0 EOF"; NFS and 9p call it POSIX.
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [_, _, _, _, pid, inode, ..] if inode == wanted => pid.parse::<u32>().ok(),
            _ => None,
        }
    })?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(match command.trim_end() {
        "" => format!("process {pid}"),
        command => format!("process {pid} ({})", one_line(command)),
    })
}
