//! A copy of some store paths, as `mkfs.erofs` is to see them: with the modes of a store, and of files
//! that the host has once for several names, several.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use vmm::closure::{STORE_DIR, StorePath};

use super::Interrupt;
use super::walk::{FOLDER_MODE, Kind, walk};

/// Of folders that are being filled or removed.
const OPEN_MODE: u32 = 0o755;

/// Bytes of a name: `mkfs.erofs` 1.5 does not find again what has one more.
const NAME_BYTES_MAX: usize = 254;

/// A folder with store paths in it, removed at the end.
pub struct Tree {
    folder: TempDir,
    folders: Vec<PathBuf>,
}

impl Tree {
    /// Copies `paths` to a new folder in `beside`. File systems that can share the bytes.
    ///
    /// # Errors
    /// Something cannot be read or written, or the user has lost patience.
    pub fn copy(paths: &[StorePath], beside: &Path, interrupt: &Interrupt) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(".mvm-build-")
            .tempdir_in(beside)
            .with_context(|| format!("cannot make a folder in {}", beside.display()))?;
        let mut tree = Self {
            folders: vec![folder.path().into()],
            folder,
        };
        for path in paths {
            walk(Path::new(path.as_str()), &mut |from, kind| {
                interrupt.check()?;
                tree.add(from, kind)
                    .with_context(|| format!("cannot copy {}", from.display()))
            })?;
        }
        set_modes(&tree.folders, FOLDER_MODE).context("cannot set the modes of what was copied")?;
        Ok(tree)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&mut self, from: &Path, kind: &Kind) -> Result<()> {
        let name_bytes = from.file_name().map_or(0, OsStr::len);
        ensure!(
            name_bytes <= NAME_BYTES_MAX,
            "its name has {name_bytes} bytes, and mkfs.erofs takes at most {NAME_BYTES_MAX}"
        );
        let to = self.folder.path().join(from.strip_prefix(STORE_DIR)?);
        match kind {
            Kind::Folder => {
                fs::create_dir(&to)?;
                self.folders.push(to);
            }
            Kind::Link(target) => symlink(target, &to)?,
            Kind::File { mode, .. } => {
                fs::copy(from, &to)?;
                fs::set_permissions(&to, Permissions::from_mode(*mode))?;
            }
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // In a folder that nobody can write to nothing can be removed.
        let _ = set_modes(&self.folders, OPEN_MODE);
    }
}

fn set_modes(folders: &[PathBuf], mode: u32) -> std::io::Result<()> {
    let mut folders = folders.iter();
    folders.try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(mode)))
}
