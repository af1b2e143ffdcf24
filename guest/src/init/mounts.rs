//! The file systems that the host offers: store, shares, volumes, memory.
//!
//! The one thing to know: all are `nodev` and `nosuid`, as NixOS mounts its store: Nix keeps no
//! set-uid file there, and a share's files are another system's.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::{file, plan9, store, volumes};
use crate::protocol::{FileSystem, Mount};
use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// What is read ahead of a program that reads a file in order, in KiB. The kernel's 128 cost a
/// request to the host each; 1 MiB is the largest that virtio-fs takes in one.
const READ_AHEAD_KIB: &str = "1024";

/// Where shares are mounted that are single files, each called as its device.
const FILES: &str = "/run/mvm/files";

/// Mounts all, in order.
pub(super) fn mount_all(mounts: &[Mount]) -> Result<()> {
    for wanted in mounts {
        let (kind, source) = (wanted.file_system.name(), &wanted.source);
        let point = &wanted.mount_point;
        mount_one(wanted).with_context(|| format!("cannot mount {kind} {source:?} on {point}"))?;
    }
    Ok(())
}

fn mount_one(wanted: &Mount) -> Result<()> {
    let mount_point = Path::new(wanted.mount_point.as_os_str());
    if let Some(name) = &wanted.file {
        let folder = Path::new(FILES).join(&wanted.source);
        let file = folder.join(Path::new(name.as_os_str()));
        mount_one(&Mount {
            mount_point: folder.into_os_string().into(),
            file: None,
            ..wanted.clone()
        })?;
        return file::show(&file, mount_point);
    }
    let has_below = wanted.beside || (wanted.fill && mount_point.is_dir());
    make_mount_point(mount_point)?;
    let below = has_below.then(|| open_below(mount_point)).transpose()?;
    if wanted.file_system == FileSystem::Ext4 {
        volumes::mount_volume(&wanted.source, mount_point, wanted.read_only)?;
        return fill(mount_point, below.as_ref());
    }
    let options = match wanted.file_system {
        FileSystem::Plan9 => plan9::options(&wanted.options)?,
        FileSystem::Virtiofs | FileSystem::Tmpfs | FileSystem::Ext4 | FileSystem::Erofs => {
            CString::new(wanted.options.as_str())?
        }
        FileSystem::ErofsDax => c"dax=always".into(),
    };
    let options: Option<&CStr> = (!options.is_empty()).then_some(&options);
    let source = match wanted.file_system {
        FileSystem::Erofs => volumes::disk(&wanted.source)?,
        FileSystem::ErofsDax => volumes::memory_disk()?,
        _ => wanted.source.as_str().into(),
    };
    let mount_with = |options| {
        let (name, flags) = (wanted.file_system.name(), flags(wanted.read_only));
        mount(&source, mount_point, name, flags, options)
    };
    match mount_with(options) {
        // A kernel that cannot map files of such a disk reads them.
        Err(Errno::INVAL) if wanted.file_system == FileSystem::ErofsDax => mount_with(None),
        mounted => mounted,
    }?;
    if wanted.file_system == FileSystem::Virtiofs {
        read_further_ahead(mount_point).context("cannot set its read-ahead")?;
    }
    if wanted.fill {
        return fill(mount_point, below.as_ref());
    }
    match (&wanted.upper, below) {
        (Some(upper), below) => store::lay_over(mount_point, below.as_ref(), upper),
        (None, Some(below)) => show_beside(mount_point, &below),
        (None, None) => Ok(()),
    }
}

/// Has what is mounted have what the image has there, if it has anything.
fn fill(mount_point: &Path, below: Option<&OwnedFd>) -> Result<()> {
    below.map_or(Ok(()), |below| {
        volumes::fill(mount_point, below).context("cannot copy to it what the image has there")
    })
}

/// What is at a mount point before something is mounted there.
fn open_below(mount_point: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(mount_point, flags, Mode::empty()).context("cannot open what is there")
}

/// Has what is mounted hide only what `below` has of the same names.
fn show_beside(mount_point: &Path, below: &OwnedFd) -> Result<()> {
    // A mount's root has no permissions before somebody asks for them, and the overlay takes them as
    // they are now.
    fs::metadata(mount_point).context("cannot look at it")?;
    let options = CString::new(layers(mount_point, Some(below)))?;
    mount("beside", mount_point, "overlay", flags(true), &*options)
        .context("cannot lay it over what is there")
}

/// The option of an overlay over what is mounted at a mount point, and over what was there before.
pub(super) fn layers(mount_point: &Path, below: Option<&OwnedFd>) -> String {
    let point = mount_point.to_string_lossy();
    let below = below.map(|below| format!(":/proc/self/fd/{}", below.as_raw_fd()));
    format!("lowerdir={point}{}", below.unwrap_or_default())
}

pub(super) fn flags(read_only: bool) -> MountFlags {
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, read_only);
    flags
}

/// A mount point may lie in a file system that takes no new folder, but has this one.
fn make_mount_point(path: &Path) -> io::Result<()> {
    match fs::create_dir_all(path) {
        Err(_) if path.is_dir() => Ok(()),
        other => other,
    }
}

/// The kernel names a FUSE mount's settings by its device number (`super_setup_bdi`).
fn read_further_ahead(mount_point: &Path) -> Result<()> {
    // Without asking the server: it costs a request, and the number is the mount's.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let facts = statx(CWD, mount_point, flags, StatxFlags::empty())?;
    let (major, minor) = (facts.stx_dev_major, facts.stx_dev_minor);
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    fs::write(&setting, READ_AHEAD_KIB).with_context(|| format!("cannot write {setting}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_neither_devices_nor_set_uid_programs() {
        let always = MountFlags::NOSUID | MountFlags::NODEV;
        assert_eq!(flags(false), always);
        assert_eq!(flags(true), always | MountFlags::RDONLY);
    }

    #[test]
    fn an_existing_mount_point_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        make_mount_point(&path).unwrap();
        make_mount_point(&path).unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(make_mount_point(&path).is_err());
    }
}
