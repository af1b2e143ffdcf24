//! The emulated host's folder: `$XDG_RUNTIME_DIR/mvm-emulator`, for root `/run/mvm-emulator`.
//!
//! The one thing to know: who holds the lock `alive` is the emulated host, and the kernel drops it
//! however that process ends. Whoever starts or ends one holds `starting` meanwhile, so two commands
//! that need one at once start one.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Name of the folder.
const NAME: &str = "mvm-emulator";

/// Permissions of the group and of all others.
const OTHERS: u32 = 0o077;

/// The folder of this user.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes it if it is missing.
    ///
    /// # Errors
    /// It is not the user's alone, or cannot be made.
    pub fn open() -> Result<Self> {
        let uid = rustix::process::getuid();
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let path = match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
            Some(runtime) => runtime.join(NAME),
            None if uid.is_root() => Path::new("/run").join(NAME),
            None => PathBuf::from(format!("/tmp/{NAME}-{}", uid.as_raw())),
        };
        Self::at(path)
    }

    fn at(path: PathBuf) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot create {}", path.display()));
            }
            _ => {}
        }
        let facts = fs::symlink_metadata(&path)
            .with_context(|| format!("cannot look at {}", path.display()))?;
        ensure!(
            facts.is_dir()
                && facts.uid() == rustix::process::getuid().as_raw()
                && facts.mode() & OTHERS == 0,
            "cannot use {}: it must be a folder that belongs to this user and is open to no other",
            path.display()
        );
        Ok(Self { path })
    }

    /// Where the emulated host listens.
    pub fn socket(&self) -> PathBuf {
        self.path.join("socket")
    }

    /// What it and its kernel say.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The log of the one before.
    pub fn previous_log(&self) -> PathBuf {
        self.path.join("log.previous")
    }

    /// What it tells about itself.
    pub fn state(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// The first file system of its kernel.
    pub fn initramfs(&self) -> PathBuf {
        self.path.join("initramfs")
    }

    /// What machines inside tell the command of this process.
    pub fn notices(&self) -> PathBuf {
        self.path.join(format!("notices-{}", std::process::id()))
    }

    /// Where the command of this process keeps sockets of systemd's for machines inside.
    pub fn sockets(&self) -> PathBuf {
        self.path.join(format!("sockets-{}", std::process::id()))
    }

    /// When the store had last changed at the last command.
    pub fn store_time(&self) -> PathBuf {
        self.path.join("store-time")
    }

    /// Waits until nobody else starts or ends an emulated host. Dropping the file ends the turn.
    pub fn turn(&self) -> Result<File> {
        let file = self.lock_file("starting")?;
        lock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// The same, unless someone has the turn.
    pub fn try_turn(&self) -> Result<Option<File>> {
        self.try_lock("starting")
    }

    /// The emulated host's mark that it lives; waits for the end of the one before.
    pub fn claim(&self) -> Result<File> {
        let file = self.lock_file("alive")?;
        lock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Whether an emulated host lives.
    pub fn is_claimed(&self) -> Result<bool> {
        Ok(self.try_lock("alive")?.is_none())
    }

    fn try_lock(&self, name: &str) -> Result<Option<File>> {
        let file = self.lock_file(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot lock {name}")),
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

fn lock(file: &File, how: FlockOperation) -> Result<()> {
    loop {
        match flock(file, how) {
            Err(Errno::INTR) => {}
            other => return other.context("cannot lock the emulated host's folder"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_is_made_for_the_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(NAME);
        Folder::at(path.clone()).unwrap();
        Folder::at(path.clone()).unwrap();
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_and_an_open_folder_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (target, link) = (parent.path().join("target"), parent.path().join("link"));
        Folder::at(target.clone()).unwrap();
        symlink(&target, &link).unwrap();
        let linked = Folder::at(link).unwrap_err().to_string();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o750)).unwrap();
        let open = Folder::at(target).unwrap_err().to_string();
        assert!(linked.contains("open to no other"), "{linked}");
        assert!(open.contains("open to no other"), "{open}");
    }

    #[test]
    fn one_lives_and_one_has_the_turn() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::at(parent.path().join(NAME)).unwrap();
        let alive = folder.claim().unwrap();
        assert!(folder.is_claimed().unwrap());
        let turn = folder.turn().unwrap();
        assert!(folder.try_turn().unwrap().is_none());
        drop((alive, turn));
        assert!(!folder.is_claimed().unwrap());
        assert!(folder.try_turn().unwrap().is_some());
    }
}
