//! Volumes: disks of the machine's own, with an ext4 each.
//!
//! The one thing to know: a disk is found by its serial (virtio 1.2 §5.2.6, `GET_ID`), since the
//! kernel numbers disks as it finds them. After a crash the kernel replays the journal when it mounts
//! one, which is all the repair that ext4 needs; nothing here runs `fsck`.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};

/// Where the kernel lists disks.
const DISKS: &str = "/sys/block";

/// What is deleted is given back to the host at once. The inode tables of a file full of holes are
/// zero already, and would take room if the kernel made them so. And a file is not said to be longer
/// before what it is longer by is on the disk: else a machine that is killed may leave zeros at the end
/// of a log, between two flushes of its program, which a data base takes for damage.
const OPTIONS: &CStr = c"discard,noinit_itable,dioread_lock";

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Most bytes of the names of a file's extended attributes, and of the value of one (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
const ATTRIBUTES_SIZE: usize = 64 * 1024;

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
    let below = PathBuf::from(format!("/proc/self/fd/{}/.", below.as_raw_fd()));
    copy_attributes(&below, mount_point)?;
    copy_all(&below, mount_point)
}

/// Copies what is in a folder to another one: files, links and folders, with owners, modes and extended
/// attributes. What is one file there is one here.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    // Depth does not matter to it, which an image decides.
    let mut waiting = vec![(from.to_path_buf(), to.to_path_buf())];
    let mut copied = HashMap::new();
    while let Some((from, to)) = waiting.pop() {
        for entry in fs::read_dir(&from)? {
            let name = entry?.file_name();
            let (from, to) = (from.join(&name), to.join(&name));
            let there = fs::symlink_metadata(&from)?;
            let kind = there.file_type();
            let file = (there.dev(), there.ino());
            if kind.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
            } else if kind.is_dir() {
                fs::create_dir(&to)?;
                waiting.push((from.clone(), to.clone()));
            } else if !kind.is_file() {
                continue;
            } else if let Some(first) = copied.get(&file) {
                fs::hard_link(first, &to)?;
                continue;
            } else {
                fs::copy(&from, &to)?;
                if there.nlink() > 1 {
                    copied.insert(file, to.clone());
                }
            }
            lchown(&to, Some(there.uid()), Some(there.gid()))?;
            // After the owner, with whom set-uid bits and capabilities go.
            if !kind.is_symlink() {
                fs::set_permissions(&to, there.permissions())?;
            }
            copy_attributes(&from, &to)?;
        }
    }
    Ok(())
}

/// Copies the extended attributes that the file system at `to` takes.
fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let mut names = Vec::with_capacity(ATTRIBUTES_SIZE);
    match llistxattr(from, spare_capacity(&mut names)) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = Vec::with_capacity(if names.is_empty() { 0 } else { ATTRIBUTES_SIZE });
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name)?;
        value.clear();
        lgetxattr(from, name, spare_capacity(&mut value))?;
        match lsetxattr(to, name, &value, XattrFlags::empty()) {
            Err(error) if is_passed_over(name, error) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether a file goes without this attribute, which its file system has refused: one of a kind that it
/// does not have, for which it has no room, or that it does not let be set. Without its capabilities a
/// program would fail later and say less, so they go only where there is no such kind.
fn is_passed_over(name: &CStr, error: Errno) -> bool {
    match error {
        Errno::OPNOTSUPP => true,
        Errno::NOSPC | Errno::TOOBIG | Errno::PERM => name != c"security.capability",
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_file_system_refuses_is_passed_over_but_for_capabilities() {
        let (note, capability) = (c"user.note", c"security.capability");
        for error in [Errno::NOSPC, Errno::TOOBIG, Errno::PERM] {
            assert!(is_passed_over(note, error), "{error}");
            assert!(!is_passed_over(capability, error), "{error}");
        }
        assert!(is_passed_over(capability, Errno::OPNOTSUPP));
        assert!(!is_passed_over(note, Errno::IO));
    }

    #[test]
    fn a_copy_has_links_and_attributes_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in ["from", "from/in", "to"] {
            fs::create_dir(place(name)).unwrap();
        }
        fs::write(place("from/one"), "content").unwrap();
        fs::set_permissions(place("from/one"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(place("from/one"), place("from/in/other")).unwrap();
        fs::write(place("from/alone"), "").unwrap();
        symlink("one", place("from/link")).unwrap();
        for name in ["from/one", "from/in"] {
            lsetxattr(place(name), c"user.note", b"kept", XattrFlags::empty()).unwrap();
        }
        copy_all(&place("from"), &place("to")).unwrap();
        let facts = |name: &str| fs::symlink_metadata(place(name)).unwrap();
        let (one, other) = (facts("to/one"), facts("to/in/other"));
        assert_eq!((one.ino(), one.nlink()), (other.ino(), 2));
        assert_eq!(one.mode() & 0o7777, 0o640);
        assert_eq!(facts("to/alone").nlink(), 1);
        assert!(facts("to/link").is_symlink());
        for name in ["to/in/other", "to/in"] {
            let mut value = Vec::with_capacity(8);
            lgetxattr(place(name), c"user.note", spare_capacity(&mut value)).unwrap();
            assert_eq!(value, b"kept", "{name}");
        }
    }
}
