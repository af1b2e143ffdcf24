//! A network's folder, `.networks/NAME` in the runtime folder: its socket, what its process has said, and
//! the lock of whoever starts or ends that.
//!
//! No machine's name begins with a dot, so this is no machine's folder.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::places;

/// The folder of all networks.
const PARENT: &str = ".networks";

const SOCKET: &str = "socket";
const LOG: &str = "log";
const LOCK: &str = "lock";

/// Locks that were taken of folders which went just then, before something is wrong.
const ATTEMPTS_MAX: u32 = 100;

/// The folder of one network.
#[derive(Clone, Debug)]
pub struct Folder {
    name: String,
    path: PathBuf,
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network {}", self.name)
    }
}

impl Folder {
    /// That of the network `name`, which may not be there.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: places::runtime().join(PARENT).join(name),
        }
    }

    /// The names of networks that have one, sorted.
    pub fn names() -> Vec<String> {
        let Ok(entries) = fs::read_dir(places::runtime().join(PARENT)) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its process listens.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// What its process has said.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Makes it, and waits until nobody else starts or ends its process. Dropping the file ends the
    /// turn.
    ///
    /// # Errors
    /// It cannot be made, or is not this user's alone.
    pub fn turn(&self) -> Result<File> {
        places::private(&places::runtime())?;
        for _ in 0..ATTEMPTS_MAX {
            places::private(&self.path)?;
            if let Some(lock) = self.lock(FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
        bail!("cannot take {self}: its folder comes and goes")
    }

    /// The same, unless somebody has the turn or it is not there.
    ///
    /// # Errors
    /// The host's lock fails.
    pub fn try_turn(&self) -> Result<Option<File>> {
        self.lock(FlockOperation::NonBlockingLockExclusive)
    }

    /// Removes it, in one's turn. What cannot be removed is the next one's.
    pub fn remove(&self, turn: File) {
        for file in [SOCKET, LOG, LOCK] {
            let _ = fs::remove_file(self.path.join(file));
        }
        let _ = fs::remove_dir(&self.path);
        drop(turn);
        // Goes with the last network.
        let _ = fs::remove_dir(places::runtime().join(PARENT));
    }

    /// None where it has gone meanwhile, or somebody else has it and one is not to wait.
    fn lock(&self, how: FlockOperation) -> Result<Option<File>> {
        let path = self.path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot open {}", path.display()))?,
        };
        loop {
            match flock(&lock, how) {
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                other => break other.with_context(|| format!("cannot lock {}", path.display()))?,
            }
        }
        // Whoever had it may have removed the folder.
        let held = lock.metadata().context("cannot look at a lock")?;
        let is_same = fs::metadata(&path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()));
        Ok(is_same.then_some(lock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(parent: &tempfile::TempDir) -> Folder {
        Folder {
            name: "shop".into(),
            path: parent.path().join("shop"),
        }
    }

    #[test]
    fn one_has_the_turn_until_it_ends() {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(&parent);
        assert!(folder.try_turn().unwrap().is_none());
        fs::create_dir(&folder.path).unwrap();
        let turn = folder.try_turn().unwrap().unwrap();
        assert!(folder.try_turn().unwrap().is_none());
        drop(turn);
        assert!(folder.try_turn().unwrap().is_some());
    }

    #[test]
    fn the_lock_of_a_folder_that_has_gone_is_nobodys() {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(&parent);
        fs::create_dir(&folder.path).unwrap();
        let turn = folder.try_turn().unwrap().unwrap();
        fs::write(folder.socket(), "").unwrap();
        fs::write(folder.log(), "").unwrap();
        let waiting = {
            let folder = folder.clone();
            std::thread::spawn(move || folder.lock(FlockOperation::LockExclusive).unwrap())
        };
        folder.remove(turn);
        assert!(!folder.path.exists());
        assert!(waiting.join().unwrap().is_none());
    }
}
