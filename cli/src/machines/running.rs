//! A running machine's folder, `$XDG_RUNTIME_DIR/mvm/<name>/` (for root `/run/mvm/<name>/`).
//!
//! The folder's own lock says that its machine lives: the kernel drops it however the process
//! ends. A folder that nobody locks is a ghost, and the next command removes it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::{cgroup, places};

/// Machines of one name at a time, before something is wrong with whoever starts them.
const SAME_NAME_MAX: u32 = 1000;

/// Far longer than anyone takes to look whether a machine runs.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Name of the socket in the folder.
const SOCKET: &str = "control";

/// Name of the link to the machine's control group, if it has one; the only other file there.
const CGROUP: &str = "cgroup";

/// The folder of a machine of this process; removed when it is dropped.
pub struct Running {
    path: PathBuf,
    /// Holds the lock; none if a supervisor does, whose folder it is.
    lock: Option<File>,
}

impl Running {
    /// Makes the folder of a machine called `name`, or `name-2` and so on while others of that
    /// name run or `is_taken`, and removes the ghosts.
    ///
    /// # Errors
    /// The parent belongs to someone else or cannot be made.
    pub fn create(name: &str, is_taken: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        let parent = parent()?;
        remove_ghosts(&parent);
        for number in 1..=SAME_NAME_MAX {
            let name = match number {
                1 => name.to_owned(),
                _ => format!("{name}-{number}"),
            };
            if !is_taken(&name)
                && let Some(running) = Self::at(parent.join(name))?
            {
                return Ok(running);
            }
        }
        bail!("cannot start {name}: {SAME_NAME_MAX} machines of that name run")
    }

    /// Makes the folder of the machine `name`; `None` if that runs.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn claim(name: &str) -> anyhow::Result<Option<Self>> {
        Self::at(parent()?.join(name))
    }

    /// The folder of the machine `name`, which the supervisor above this process has.
    pub fn below_supervisor(name: &str) -> Self {
        let path = places::runtime().join(name);
        // That of one that was killed.
        let _ = fs::remove_file(path.join(SOCKET));
        Self { path, lock: None }
    }

    /// Takes the folder at `path` unless a living machine has it.
    fn at(path: PathBuf) -> anyhow::Result<Option<Self>> {
        let made = DirBuilder::new().mode(0o700).create(&path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error).with_context(|| format!("cannot create {}", path.display()));
        }
        let Some(lock) = open(&path) else {
            return Ok(None);
        };
        if !lock_for_good(&lock, &path) {
            return Ok(None);
        }
        // Between opening and locking, another command may have removed it as a ghost.
        let same = fs::metadata(&path).is_ok_and(|now| {
            lock.metadata()
                .is_ok_and(|then| (now.dev(), now.ino()) == (then.dev(), then.ino()))
        });
        if !same {
            return Ok(None);
        }
        // A ghost's. A control group that cannot go yet is told by the next one that needs the link.
        let _ = fs::remove_file(path.join(SOCKET));
        let _ = cgroup::remove(&path.join(CGROUP));
        Ok(Some(Self {
            path,
            lock: Some(lock),
        }))
    }

    /// The machine's name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Where the machine listens.
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// Where the link to the machine's control group is to be.
    pub fn cgroup(&self) -> PathBuf {
        self.path.join(CGROUP)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self.lock {
            Some(_) => remove(&self.path),
            None => drop(fs::remove_file(self.path.join(SOCKET))),
        }
    }
}

/// Where the machine `name` listens, if it runs.
pub fn socket_of(name: &str) -> PathBuf {
    places::runtime().join(name).join(SOCKET)
}

/// Where the link to the control group of the machine `name` is, if it has one.
pub fn cgroup_of(name: &str) -> PathBuf {
    places::runtime().join(name).join(CGROUP)
}

/// Whether the machine `name` runs.
pub fn is_running(name: &str) -> bool {
    is_alive(&places::runtime().join(name))
}

/// Whether a machine runs whose folder is `folder` or below it, of whatever set of machines.
pub fn any_below(folder: &Path) -> bool {
    let below = |entry: fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && any_below(&entry.path())
    };
    is_alive(folder)
        || fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(below)))
}

/// Whether somebody has the lock of a machine's folder.
fn is_alive(path: &Path) -> bool {
    open(path).is_some_and(|folder| {
        flock(&folder, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Waits until the machine `name` has ended and its folder has gone with it.
///
/// # Errors
/// The host's lock fails.
pub fn await_end(name: &str) -> anyhow::Result<()> {
    match open(&places::runtime().join(name)) {
        Some(folder) => {
            flock(&folder, FlockOperation::LockShared).context("cannot wait for the machine's end")
        }
        None => Ok(()),
    }
}

/// The process of the machine `name`: who listens at its socket. None if nobody does.
///
/// # Errors
/// It cannot be reached for another reason.
pub fn monitor(name: &str) -> anyhow::Result<Option<Pid>> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let cannot = || format!("cannot reach the machine {name}");
    let stream = match UnixStream::connect(socket_of(name)) {
        Err(error) if matches!(error.kind(), ConnectionRefused | NotFound) => return Ok(None),
        other => other.with_context(cannot)?,
    };
    let peer = rustix::net::sockopt::socket_peercred(&stream).with_context(cannot)?;
    Ok(Some(peer.pid))
}

/// Removes what machines have left that were killed.
///
/// # Errors
/// The folder belongs to someone else or cannot be made.
pub fn sweep() -> anyhow::Result<()> {
    remove_ghosts(&parent()?);
    Ok(())
}

/// The names of the machines that run, sorted.
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(places::runtime()) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| is_running(name))
        .collect();
    names.sort();
    names
}

/// Takes the lock unless a living machine has it. One that just looks whether it runs has it, too,
/// but for a moment and without a socket.
fn lock_for_good(lock: &File, path: &Path) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        if flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        if UnixStream::connect(path.join(SOCKET)).is_ok() {
            return false;
        }
        thread::sleep(LOCK_PAUSE);
    }
    false
}

/// Opens the folder at `path`; whatever else is there is not ours.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .ok()
        .map(File::from)
}

/// Removes folders whose machines have gone. One with other files in it is not a machine's, and
/// stays.
fn remove_ghosts(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(folder) = open(&path) else {
            continue;
        };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(&path);
        }
    }
}

/// Removes a machine's folder, which this process has locked. What cannot be removed is a ghost,
/// and the next command's.
fn remove(path: &Path) {
    let _ = fs::remove_file(path.join(SOCKET));
    let _ = cgroup::remove(&path.join(CGROUP));
    let _ = fs::remove_dir(path);
}

/// The folder of all machines of this user, made if it is missing.
fn parent() -> anyhow::Result<PathBuf> {
    let path = places::runtime();
    places::private(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(path: &Path) -> Option<Running> {
        Running::at(path.to_owned()).unwrap()
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
    fn a_supervisors_folder_outlives_the_machine_below() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("web");
        let supervisor = claim(&path).unwrap();
        let lock = None;
        let below = Running {
            path: path.clone(),
            lock,
        };
        fs::write(below.socket(), "").unwrap();
        drop(below);
        assert!(path.exists() && !supervisor.socket().exists());
        assert!(claim(&path).is_none());
    }

    #[test]
    fn ghosts_are_removed_and_the_living_are_not() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("ghost")).unwrap();
        fs::write(parent.path().join("ghost").join(SOCKET), "").unwrap();
        let files = parent.path().join("somebodys");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("letter"), "dear reader").unwrap();
        let _living = claim(&parent.path().join("living")).unwrap();
        remove_ghosts(parent.path());
        assert!(files.join("letter").exists());
        assert!(parent.path().join("living").exists());
        assert!(!parent.path().join("ghost").exists());
    }

    #[test]
    fn a_ghosts_control_group_goes_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let (ghost, group) = (
            parent.path().join("ghost"),
            parent.path().join("mvm-ghost-1"),
        );
        fs::create_dir(&ghost).unwrap();
        fs::create_dir(&group).unwrap();
        std::os::unix::fs::symlink(&group, ghost.join(CGROUP)).unwrap();
        remove_ghosts(parent.path());
        assert!(!ghost.exists() && !group.exists());
    }

    #[test]
    fn what_a_ghost_left_is_not_the_next_machines() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("web");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(SOCKET), "").unwrap();
        let running = claim(&path).unwrap();
        assert!(!running.socket().exists());
    }
}
