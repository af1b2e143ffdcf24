//! `/etc` as an overlay: an image of its names, owners and modes, and a folder of the files' content.
//!
//! The one thing to know: the places are NixOS' own (`system.etc.overlay`), for its switch to another
//! system looks for them and mounts the next `/etc` beneath this one.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::removexattr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::loop_device;
use crate::init::volumes::mount_volume;

const ETC: &str = "/etc";

/// Where the image is mounted.
const NAMES: &str = "/run/nixos-etc-metadata";

/// What has the layer for what is written, in the root.
pub(super) const WRITTEN: &str = "/.rw-etc";

/// Where the volume of the root is mounted, as long as it takes to show a folder of it.
const VOLUME: &str = "/run/mvm-root";

const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// How it is put together.
pub(super) struct Etc<'a> {
    /// The EROFS with the names.
    pub image: &'a Path,
    /// The folder that the image's files have their content from.
    pub content: &'a Path,
    pub is_mutable: bool,
    /// The serial of the volume that keeps the root, if one does.
    pub volume: Option<&'a str>,
}

/// Mounts it over what the root has there.
pub(super) fn mount_over(etc: &Etc<'_>) -> Result<()> {
    let name_servers = fs::read(resolv_conf(ETC)).ok();
    mount_image(etc.image).with_context(|| format!("cannot mount {}", etc.image.display()))?;
    // A layer behind two colons has content alone.
    let layers = format!("lowerdir={NAMES}::{}", etc.content.display());
    let (flags, upper) = if etc.is_mutable {
        (FLAGS, prepare_written(etc.volume)?)
    } else {
        (FLAGS | MountFlags::RDONLY, String::new())
    };
    let options = CString::new(format!("redirect_dir=on,metacopy=on,{layers}{upper}"))?;
    mount("overlay", ETC, "overlay", flags, &*options).context("cannot mount the overlay")?;
    match name_servers {
        Some(text) if etc.is_mutable => keep_name_servers(&text),
        _ => Ok(()),
    }
}

fn mount_image(image: &Path) -> Result<()> {
    let disk = loop_device::attach(image)?;
    fs::create_dir_all(NAMES)?;
    mount(
        disk.path(),
        NAMES,
        "erofs",
        FLAGS | MountFlags::RDONLY,
        None,
    )?;
    Ok(())
}

/// Makes the layer for what is written; returns the overlay's options for it.
fn prepare_written(volume: Option<&str>) -> Result<String> {
    fs::create_dir_all(WRITTEN).with_context(|| format!("cannot make {WRITTEN}"))?;
    if let Some(serial) = volume {
        show_folder_of(serial).with_context(|| format!("cannot mount {WRITTEN}"))?;
    }
    let [upper, work] = ["upper", "work"].map(|name| format!("{WRITTEN}/{name}"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    reveal(Path::new(NAMES), Path::new(&upper)).with_context(|| format!("cannot use {upper}"))?;
    Ok(format!(",upperdir={upper},workdir={work}"))
}

/// Mounts a folder of the volume, since a root that is an overlay itself cannot have an upper layer.
fn show_folder_of(serial: &str) -> Result<()> {
    fs::create_dir_all(VOLUME)?;
    mount_volume(serial, Path::new(VOLUME), false)?;
    let folder = format!("{VOLUME}/etc");
    fs::create_dir_all(&folder)?;
    mount_bind(&*folder, WRITTEN)?;
    // Its top folder is open, for whoever closes volumes.
    unmount(VOLUME, UnmountFlags::DETACH)?;
    Ok(fs::remove_dir(VOLUME)?)
}

/// Has folders of an earlier start show what the image has there by now: a folder that was new hides
/// all that is below it.
fn reveal(names: &Path, upper: &Path) -> io::Result<()> {
    for entry in fs::read_dir(names)? {
        let entry = entry?;
        let kept = upper.join(entry.file_name());
        let is_folder = |metadata: fs::Metadata| metadata.is_dir();
        if entry.file_type()?.is_dir() && fs::symlink_metadata(&kept).is_ok_and(is_folder) {
            match removexattr(&kept, c"trusted.overlay.opaque") {
                Err(error) if error != Errno::NODATA => return Err(error.into()),
                _ => reveal(&entry.path(), &kept)?,
            }
        }
    }
    Ok(())
}

/// Keeps the name servers that the host gave, unless the system has others.
fn keep_name_servers(text: &[u8]) -> Result<()> {
    if fs::symlink_metadata(resolv_conf(NAMES)).is_ok() {
        return Ok(());
    }
    let path = resolv_conf(ETC);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::write(&path, text),
    }
    .with_context(|| format!("cannot write {path}"))
}

fn resolv_conf(etc: &str) -> String {
    format!("{etc}/resolv.conf")
}
