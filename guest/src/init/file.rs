//! A single file of the host at its place in the guest.
//!
//! The one thing to know: where it can be, it is a link, which leads to what the host has there now. An
//! editor makes a new file of each change, and a mounted file would stay the old one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FsWord, statfs};
use rustix::mount::mount_bind;

/// `OVERLAYFS_SUPER_MAGIC` and `TMPFS_MAGIC` (linux/magic.h): what the machine's own root is of.
const OWN: [FsWord; 2] = [0x794c_7630, 0x0102_1994];

/// Has the file be at `target` as well: in the place of a file of the root's own, and over what is on
/// other file systems, which is not the guest's to remove.
pub(super) fn show(file: &Path, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).context("cannot make its folder")?;
    let is_own = OWN.contains(&statfs(folder)?.f_type);
    match fs::symlink_metadata(target) {
        Ok(there) if there.is_dir() => bail!("a folder is there"),
        Ok(_) if is_own => fs::remove_file(target)?,
        Ok(_) => return mount_over(file, target),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Err(_) if is_own => {}
        Err(_) => {
            File::create_new(target).context("cannot make a file there")?;
            return mount_over(file, target);
        }
    }
    std::os::unix::fs::symlink(file, target).context("cannot make a link there")
}

fn mount_over(file: &Path, target: &Path) -> Result<()> {
    mount_bind(file, target).context("cannot mount it over what is there")
}
