//! A store that the guest adds to: an overlay over what the host shows of its own.
//!
//! The one thing to know: what Nix knows of the store is in `/nix/var`, which is kept where the
//! additions are, so that neither is ever without the other.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{mount, mount_bind};

use super::mounts::{flags, layers};
use super::volumes;
use crate::protocol::Upper;

/// Where the additions are, by microvm.nix's name for it.
const KEPT: &str = "/nix/.rw-store";

/// Nix's own folder.
const STATE: &str = "/nix/var";

/// Has the guest write over the store that is mounted at `store`, and over what was there before.
pub(super) fn lay_over(store: &Path, below: Option<&OwnedFd>, upper: &Upper) -> Result<()> {
    fs::create_dir_all(KEPT).with_context(|| format!("cannot make {KEPT}"))?;
    mount_upper(upper).with_context(|| format!("cannot mount {KEPT}"))?;
    for folder in ["store", "work", "var"] {
        let folder = format!("{KEPT}/{folder}");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {folder}"))?;
    }
    // An overlay's top folder is that of its upper layer.
    let shown = fs::metadata(store)?;
    let top = format!("{KEPT}/store");
    chown(&top, Some(shown.uid()), Some(shown.gid()))?;
    fs::set_permissions(&top, Permissions::from_mode(shown.mode() & 0o7777))?;
    let options = format!(
        "{},upperdir={top},workdir={KEPT}/work",
        layers(store, below)
    );
    let options = CString::new(options)?;
    mount("store", store, "overlay", flags(false), &*options)
        .context("cannot lay what it writes over it")?;
    fs::create_dir_all(STATE).with_context(|| format!("cannot make {STATE}"))?;
    mount_bind(format!("{KEPT}/var"), STATE).with_context(|| format!("cannot mount {STATE}"))
}

fn mount_upper(upper: &Upper) -> Result<()> {
    match upper {
        Upper::Tmpfs { size_kib } => {
            let options = CString::new(format!("mode=755,size={size_kib}k"))?;
            Ok(mount("store", KEPT, "tmpfs", flags(false), &*options)?)
        }
        Upper::Volume { serial } => volumes::mount_volume(serial, Path::new(KEPT), false),
    }
}
