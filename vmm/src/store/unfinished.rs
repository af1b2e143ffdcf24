//! A file that is not whole yet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;

/// What a file is called until it is whole.
const PREFIX: &str = ".new-";

/// A file that is removed unless it gets its name.
pub struct Unfinished {
    /// What is written to.
    pub file: File,
    path: PathBuf,
}

impl Unfinished {
    /// An empty one in `folder`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        // Of this process and this thread alone.
        let id = rustix::thread::gettid().as_raw_nonzero();
        let path = folder.join(format!("{PREFIX}{}-{id}", std::process::id()));
        let file = File::create(&path)?;
        Ok(Self { file, path })
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn rename(self, to: &Path) -> Result<()> {
        Ok(fs::rename(&self.path, to)?)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a file has no other name than one that is not whole.
pub fn is_one(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}
