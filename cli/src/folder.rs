//! A running machine's folder, `$XDG_RUNTIME_DIR/mvm/<name>/` (for root `/run/mvm/<name>/`).
//!
//! The folder's own lock says that its machine lives: the kernel drops it however the process
//! ends. A folder that nobody locks is a ghost, and the next command removes it. Without a
//! runtime directory the folder is `/tmp/mvm-UID`, which must be the user's alone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

/// Machines of one name at a time, before something is wrong with whoever starts them.
const SAME_NAME_MAX: u32 = 1000;

/// The folder of a machine of this process; removed when it is dropped.
pub struct Folder {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl Folder {
    /// Makes the folder of a machine called `name`, or `name-2` and so on while others of that
    /// name run, and removes the ghosts.
    ///
    /// # Errors
    /// The parent belongs to someone else or cannot be made.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        let parent = parent()?;
        remove_ghosts(&parent);
        for number in 1..=SAME_NAME_MAX {
            let path = match number {
                1 => parent.join(name),
                _ => parent.join(format!("{name}-{number}")),
            };
            if let Some(folder) = Self::claim(path)? {
                return Ok(folder);
            }
        }
        bail!("cannot start {name}: {SAME_NAME_MAX} machines of that name run")
    }

    /// Takes the folder at `path` unless a living machine has it.
    fn claim(path: PathBuf) -> anyhow::Result<Option<Self>> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
        let Some(lock) = open(&path) else {
            return Ok(None);
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Between opening and locking, another command may have removed it as a ghost.
        let same = fs::metadata(&path).is_ok_and(|now| {
            lock.metadata()
                .is_ok_and(|then| (now.dev(), now.ino()) == (then.dev(), then.ino()))
        });
        Ok(same.then_some(Self { path, _lock: lock }))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is a ghost, which the next command removes.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Opens the folder at `path`; whatever else is there is not ours.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .ok()
        .map(File::from)
}

/// Removes folders whose machines have gone. They are empty: one with something in it is not a
/// machine's, and stays.
fn remove_ghosts(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ghost = open(&entry.path())
            .is_some_and(|folder| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok());
        if ghost {
            // Another command may be removing it as well.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The folder of all machines of this user, made if it is missing.
fn parent() -> anyhow::Result<PathBuf> {
    let uid = rustix::process::getuid();
    let path = match (
        std::env::var_os("MVM_RUNTIME_DIR"),
        std::env::var_os("XDG_RUNTIME_DIR"),
    ) {
        (Some(path), _) if !path.is_empty() => PathBuf::from(path),
        _ if uid.is_root() => PathBuf::from("/run/mvm"),
        (_, Some(path)) if Path::new(&path).is_dir() => PathBuf::from(path).join("mvm"),
        _ => PathBuf::from(format!("/tmp/mvm-{}", uid.as_raw())),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let metadata = fs::symlink_metadata(&path)
        .with_context(|| format!("cannot look at {}", path.display()))?;
    ensure!(
        metadata.is_dir() && metadata.uid() == uid.as_raw() && metadata.mode() & 0o022 == 0,
        "cannot use {}: it must be a folder that belongs to this user and that no other may write",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(path: &Path) -> Option<Folder> {
        Folder::claim(path.to_owned()).unwrap()
    }

    #[test]
    fn a_folder_belongs_to_one_machine_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("web");
        let first = claim(&path).unwrap();
        assert!(claim(&path).is_none());
        drop(first);
        assert!(!path.exists());
        assert!(claim(&path).is_some());
    }

    #[test]
    fn ghosts_are_removed_and_the_living_are_not() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("ghost")).unwrap();
        let files = parent.path().join("somebodys");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("letter"), "dear reader").unwrap();
        let _living = claim(&parent.path().join("living")).unwrap();
        remove_ghosts(parent.path());
        assert!(files.join("letter").exists());
        assert!(parent.path().join("living").exists());
        assert!(!parent.path().join("ghost").exists());
    }
}
