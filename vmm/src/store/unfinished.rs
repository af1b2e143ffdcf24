//! A file that is not whole yet.
//!
//! The one thing to know: it is locked as long as it is written, so one that is not was left behind by
//! who was killed. What another kernel locks in the same folder is not seen; its file's time is.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Whoever has not written to one for so long has gone.
const WRITTEN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

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
        loop {
            // Processes of several namespaces write to the folder, so what a process is known by is no
            // name of its own.
            let mut id = [0; 8];
            getrandom(&mut id, GetRandomFlags::empty())?;
            let path = folder.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(id)));
            match File::create_new(&path) {
                Ok(file) => {
                    flock(&file, FlockOperation::LockExclusive)?;
                    // It may have been taken for one that was left, before it was locked.
                    if file.metadata()?.nlink() > 0 {
                        return Ok(Self { file, path });
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
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

/// Removes all files of a folder, which need not be there, but those that somebody is writing.
///
/// # Errors
/// One cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot look into {}", folder.display()))?,
    };
    for entry in entries {
        let path = entry?.path();
        match remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.with_context(|| format!("cannot remove {}", path.display()))?,
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if !is_one(path) {
        return fs::remove_file(path);
    }
    // Locked until it has gone: nobody begins to write it meanwhile.
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => fs::remove_file(path),
    }
}

/// Whether somebody may still be writing a file, which was last `written` to then.
pub fn is_being_made(path: &Path, written: SystemTime) -> bool {
    is_one(path) && !written.elapsed().is_ok_and(|age| age > WRITTEN_MAX)
}

/// Whether a file has no other name than one that is not whole.
pub fn is_one(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_one_thread_are_several() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [0, 1].map(|_| Unfinished::new(folder.path()).unwrap());
        assert_ne!(one.path, other.path);
        assert!(is_one(&one.path));
        one.rename(&folder.path().join("one")).unwrap();
        drop(other);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_being_written_is_left_and_what_was_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let written = Unfinished::new(folder.path()).unwrap();
        for name in ["whole", ".new-killed"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let left = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        clear(folder.path()).unwrap();
        assert_eq!(left(), std::slice::from_ref(&written.path));
        drop(written);
        fs::remove_dir(folder.path()).unwrap();
        clear(folder.path()).unwrap();
    }
}
