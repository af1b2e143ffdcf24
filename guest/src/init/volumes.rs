//! Volumes: disks of the machine's own, with an ext4 each.
//!
//! The one thing to know: a disk is found by its serial (virtio 1.2 §5.2.6, `GET_ID`), since the
//! kernel numbers disks as it finds them. After a crash the kernel replays the journal when it mounts
//! one, which is all the repair that ext4 needs; nothing here runs `fsck`.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};

/// Where the kernel lists disks.
const DISKS: &str = "/sys/block";

/// What is deleted is given back to the host at once. The inode tables of a file full of holes are
/// zero already, and would take room if the kernel made them so. And a file is not said to be longer
/// before what it is longer by is on the disk: else a machine that is killed may leave zeros at the end
/// of a log, between two flushes of its program, which a data base takes for damage.
const OPTIONS: &std::ffi::CStr = c"discard,noinit_itable,dioread_lock";

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The topmost folders of those that can be written, wherever they are mounted.
static WRITABLE: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Mounts the volume with this serial.
pub(crate) fn mount_volume(serial: &str, mount_point: &Path, read_only: bool) -> Result<()> {
    let disk = disk(serial)?;
    let (flags, options) = if read_only {
        (FLAGS | MountFlags::RDONLY, None)
    } else {
        (FLAGS, Some(OPTIONS))
    };
    match mount(&disk, mount_point, "ext4", flags, options) {
        Err(Errno::ROFS) if read_only => {
            Err(Errno::ROFS).context("a machine that can write to it must replay its journal first")
        }
        Err(Errno::INVAL) => Err(Errno::INVAL).context("it holds no ext4"),
        other => Ok(other?),
    }?;
    if !read_only {
        // A data base wants an empty folder. Whoever repairs the volume makes this one by itself.
        let _ = fs::remove_dir(mount_point.join("lost+found"));
        let top = File::open(mount_point)?;
        let mut writable = WRITABLE.lock().unwrap_or_else(PoisonError::into_inner);
        writable.push(top.into());
    }
    Ok(())
}

/// Has a volume that is empty have what the image has at its mount point, owners and all. What a program
/// may write to there it may write to in the volume.
pub(super) fn fill(mount_point: &Path, below: &OwnedFd) -> Result<()> {
    if fs::read_dir(mount_point)?.next().is_some() {
        return Ok(());
    }
    let top = fs::metadata(format!("/proc/self/fd/{}", below.as_raw_fd()))?;
    // As it was made it is the program's user's, and an image's root has no use for it.
    if top.uid() != 0 {
        chown(mount_point, Some(top.uid()), Some(top.gid()))?;
    }
    fs::set_permissions(mount_point, top.permissions())?;
    copy_all(
        Path::new(&format!("/proc/self/fd/{}", below.as_raw_fd())),
        mount_point,
    )
}

/// Copies what is in a folder to another one: files, links and folders, with owners and modes.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    // Depth does not matter to it, which an image decides.
    let mut waiting = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = waiting.pop() {
        for entry in fs::read_dir(&from)? {
            let name = entry?.file_name();
            let (from, to) = (from.join(&name), to.join(&name));
            let there = fs::symlink_metadata(&from)?;
            let kind = there.file_type();
            if kind.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
            } else if kind.is_dir() {
                fs::create_dir(&to)?;
                waiting.push((from, to.clone()));
            } else if kind.is_file() {
                fs::copy(&from, &to)?;
            } else {
                continue;
            }
            lchown(&to, Some(there.uid()), Some(there.gid()))?;
            // After the owner, with whom set-uid bits go.
            if !kind.is_symlink() {
                fs::set_permissions(&to, there.permissions())?;
            }
        }
    }
    Ok(())
}

/// Writes everything back and closes the journals, once no program runs any more. Whoever only
/// reads a volume can do without replaying one then.
pub(super) fn close() {
    let writable = WRITABLE.lock().unwrap_or_else(PoisonError::into_inner);
    for top in writable.iter() {
        // By the descriptor, for the root's has no path.
        let path = format!("/proc/self/fd/{}", top.as_raw_fd());
        // What cannot be closed has been synchronized all the same.
        let _ = mount_remount(path, FLAGS | MountFlags::RDONLY, c"");
    }
}

/// Whoever reads it waits until the kernel has looked at memory that is a disk, which it begins to do
/// before there is this process, and for which it does not wait itself.
const MEMORY_DISKS_FOUND: &str = "/sys/bus/nd/devices/ndbus0/wait_probe";

/// The disk that is memory, of which a machine has one at most (`pmem0`).
pub(super) fn memory_disk() -> Result<PathBuf> {
    // Without the driver there is no such file, and no such disk.
    let _ = fs::read(MEMORY_DISKS_FOUND);
    let disks = fs::read_dir(DISKS).with_context(|| format!("cannot list {DISKS}"))?;
    for entry in disks {
        let name = entry
            .with_context(|| format!("cannot list {DISKS}"))?
            .file_name();
        if name.to_string_lossy().starts_with("pmem") {
            return Ok(Path::new("/dev").join(name));
        }
    }
    anyhow::bail!("there is no disk that is memory")
}

/// The device of the disk with this serial.
pub(super) fn disk(serial: &str) -> Result<PathBuf> {
    let disks = fs::read_dir(DISKS).with_context(|| format!("cannot list {DISKS}"))?;
    for entry in disks {
        let entry = entry.with_context(|| format!("cannot list {DISKS}"))?;
        // Disks of other kinds have none.
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim_end() == serial {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    anyhow::bail!("there is no such disk")
}
