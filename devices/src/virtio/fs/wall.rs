//! Landlock: the third of the three walls around a share.
//!
//! Each worker thread gives up, for good, every right to files but to read below the share's
//! root, or below the closure's paths, and every right to reach the network or other processes.
//! Below the root of a writable share it may also make, write, move and remove, but no device
//! node; and it gives up what else root has ([`thread`]).
//! A mistake in the server then stays inside the share. It is done as far as the kernel can:
//! reading is confined since Linux 5.13. A kernel that cannot is told of, and the statistics of a
//! run say how far it went.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Once, OnceLock};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use rustix::fs::fstat;
use rustix::io::Errno;

use super::content::Content;
use super::host;
use super::lock;
use super::nodes::Kind;
use super::thread;
use super::wire::ROOT_ID;
use crate::log;

/// How far the kernel confines the workers of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// By Landlock of this version: files since 1, TCP since 4, device ioctls since 5, signals
    /// and abstract sockets since 6, named sockets since 9.
    Landlock {
        /// The version that both the kernel and this program know.
        abi: i32,
    },
    /// Not at all: the kernel was built or started without Landlock.
    None,
}

/// Said once by a process, for it is the same for every share.
const UNCONFINED: &str = "this host's kernel has no Landlock: two walls are around each share, \
                          not three";
static TOLD: Once = Once::new();

/// The wall of one share, put up by each of its workers.
pub struct Wall {
    /// What its workers open files in; none, if they open none.
    around: Option<(Arc<OwnedFd>, Content)>,
    /// Made by the first worker: the rules of a large closure take milliseconds, in which the
    /// machine already boots.
    ruleset: Mutex<Option<RulesetCreated>>,
    confinement: OnceLock<Confinement>,
}

impl Wall {
    /// The wall around `content` below `root`, not yet put up.
    pub fn new(root: Arc<OwnedFd>, content: Content) -> Self {
        Self::with(Some((root, content)))
    }

    /// The wall of workers that open no file at all.
    pub fn around_nothing() -> Self {
        Self::with(None)
    }

    fn with(around: Option<(Arc<OwnedFd>, Content)>) -> Self {
        Self {
            around,
            ruleset: Mutex::new(None),
            confinement: OnceLock::new(),
        }
    }

    /// Has workers that start from now on be confined to what the content shows now. Those that are
    /// confined stay so.
    pub fn renew(&self) {
        *lock(&self.ruleset) = None;
    }

    /// What the workers are confined by; none before the first has started.
    pub fn confinement(&self) -> Option<Confinement> {
        self.confinement.get().copied()
    }

    /// Confines the calling thread.
    ///
    /// # Errors
    /// The kernel has Landlock but refuses the rules.
    pub fn confine_thread(&self) -> anyhow::Result<Confinement> {
        let confined = self
            .restrict()
            .context("cannot confine a file server's thread")?;
        let confinement = match confined.landlock {
            LandlockStatus::Available { effective_abi, .. } => Confinement::Landlock {
                abi: effective_abi as i32,
            },
            _ => Confinement::None,
        };
        if confinement == Confinement::None {
            TOLD.call_once(|| log::tell(format_args!("{UNCONFINED}")));
        }
        Ok(*self.confinement.get_or_init(|| confinement))
    }

    fn content(&self) -> Option<&Content> {
        self.around.as_ref().map(|(_, content)| content)
    }

    fn restrict(&self) -> anyhow::Result<RestrictionStatus> {
        let mut ruleset = lock(&self.ruleset);
        let made = match ruleset.take() {
            Some(made) => made,
            None => self.make()?,
        };
        let confined = made.try_clone()?.restrict_self()?;
        *ruleset = Some(made);
        if self.content().is_some_and(Content::writable) {
            thread::prepare()?;
        }
        Ok(confined)
    }

    fn make(&self) -> anyhow::Result<RulesetCreated> {
        let newest = ABI::V9;
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(newest))?
            .handle_access(AccessNet::from_all(newest))?
            .scope(Scope::from_all(newest))?
            .create()?;
        let Some((root, content)) = &self.around else {
            return Ok(ruleset);
        };
        // A single file that is replaced is another one for Landlock, which would close it: so the rule is
        // for its folder, and two walls are around what is beside it.
        let names = content.root_filter(ROOT_ID);
        let Some(filter) = names.filter(|_| content.immutable()) else {
            let rights = if content.writable() {
                writing()
            } else {
                reading(Kind::Directory)
            };
            let rule = PathBeneath::new(root, rights);
            return Ok(ruleset.add_rule(rule)?);
        };
        for name in filter.names().iter() {
            let path = match host::open_beneath(root, name, host::PLACE) {
                Ok(path) => path,
                // Nothing to read, then.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = host::identity(&fstat(&path)?).kind;
            ruleset = ruleset.add_rule(PathBeneath::new(path, reading(kind)))?;
        }
        Ok(ruleset)
    }
}

/// The rights to read a file of some kind, and all below it.
fn reading(kind: Kind) -> BitFlags<AccessFs> {
    match kind {
        Kind::Directory => AccessFs::ReadFile | AccessFs::ReadDir,
        _ => AccessFs::ReadFile.into(),
    }
}

/// The rights to change a directory and all below it. Without `Refer`, which Landlock has since
/// its second version, a rename to another directory fails with `EXDEV`.
fn writing() -> BitFlags<AccessFs> {
    reading(Kind::Directory)
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::path::PathBuf;
    use std::thread;

    use rustix::fs::{CWD, FileType};

    use super::*;
    use crate::virtio::fs::filter::Filter;
    use crate::virtio::fs::owners::Owners;

    /// What a thread that is confined to `content` can open: the share's `a/file`, its `b/file`,
    /// `top`, and a file beside the share.
    fn readable(
        content: impl FnOnce(&std::path::Path) -> Content + Send,
    ) -> (Confinement, [bool; 4]) {
        let folder = tempfile::tempdir().unwrap();
        let share = folder.path().join("share");
        for directory in ["a", "b"] {
            fs::create_dir_all(share.join(directory)).unwrap();
            fs::write(share.join(directory).join("file"), "inside").unwrap();
        }
        fs::write(share.join("top"), "inside").unwrap();
        fs::write(folder.path().join("beside"), "outside").unwrap();
        let root = Arc::new(host::open_root(&share).unwrap());
        let wall = Wall::new(root, content(&share));
        assert_eq!(wall.confinement(), None);
        let opens = |path: PathBuf| match File::open(path) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                false
            }
        };
        let confined = thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let confinement = wall.confine_thread().unwrap();
                let paths = ["a/file", "b/file", "top", "../beside"];
                (confinement, paths.map(|path| opens(share.join(path))))
            });
            confined.join().unwrap()
        });
        assert_eq!(wall.confinement(), Some(confined.0));
        assert!(
            opens(folder.path().join("beside")),
            "other threads are free"
        );
        confined
    }

    #[test]
    fn a_worker_reads_the_share_and_nothing_else() {
        let (confinement, readable) = readable(|_| Content::Changing {
            timeout: Content::CHANGING_TIMEOUT,
            filter: None,
        });
        let free = confinement == Confinement::None;
        assert_eq!(readable, [true, true, true, free]);
    }

    #[test]
    fn who_begins_after_a_closure_grew_reads_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let share = folder.path();
        for name in ["a", "b"] {
            fs::write(share.join(name), "inside").unwrap();
        }
        let filter = Filter::of_paths(share, [share.join("a")]).unwrap();
        let content = Content::Immutable {
            filter: Some(filter.clone()),
        };
        let wall = Wall::new(Arc::new(host::open_root(share).unwrap()), content);
        let readable = || {
            let work = || {
                wall.confine_thread().unwrap();
                ["a", "b"].map(|name| File::open(share.join(name)).is_ok())
            };
            thread::scope(|scope| scope.spawn(work).join().unwrap())
        };
        let before = readable();
        filter.extend(share, [share.join("b")]).unwrap();
        wall.renew();
        assert_eq!(readable(), [true, true]);
        let free = wall.confinement() == Some(Confinement::None);
        assert_eq!(before, [true, free]);
    }

    #[test]
    fn a_worker_changes_its_writable_share_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("share/directory")).unwrap();
        fs::write(path("share/file"), "inside").unwrap();
        fs::write(path("beside"), "outside").unwrap();
        let root = Arc::new(host::open_root(&path("share")).unwrap());
        let content = Content::Writable {
            timeout: Content::CHANGING_TIMEOUT,
            owners: Owners::Same,
            closed: None,
        };
        let wall = Wall::new(root, content);
        let work = || {
            let confinement = wall.confine_thread().unwrap();
            fs::write(path("share/new"), "made").unwrap();
            fs::rename(path("share/new"), path("share/directory/new")).unwrap();
            fs::remove_file(path("share/file")).unwrap();
            let outside = [
                fs::write(path("beside"), "changed").is_ok(),
                fs::write(path("made"), "").is_ok(),
                fs::remove_file(path("beside")).is_ok(),
                fs::rename(path("share/directory"), path("moved")).is_ok(),
            ];
            (confinement, outside)
        };
        let (confinement, outside) = thread::scope(|scope| scope.spawn(work).join().unwrap());
        assert_eq!(outside, [confinement == Confinement::None; 4]);
    }

    #[test]
    fn a_worker_of_a_writable_share_makes_no_device_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(host::open_root(folder.path()).unwrap());
        let content = Content::Writable {
            timeout: Content::CHANGING_TIMEOUT,
            owners: Owners::Same,
            closed: None,
        };
        let wall = Wall::new(root, content);
        let work = || {
            wall.confine_thread().unwrap();
            let (path, kind) = (folder.path().join("node"), FileType::CharacterDevice);
            rustix::fs::mknodat(CWD, path, kind, 0o666.into(), 0x0103)
        };
        let made = thread::scope(|scope| scope.spawn(work).join().unwrap());
        assert!([Err(Errno::PERM), Err(Errno::ACCESS)].contains(&made));
    }

    #[test]
    fn a_worker_reads_the_closure_and_nothing_else() {
        let (confinement, readable) = readable(|share| {
            let paths = ["a", "top", "missing"].map(|name| share.join(name));
            let filter = Filter::of_paths(share, paths).unwrap();
            Content::Immutable {
                filter: Some(filter),
            }
        });
        let free = confinement == Confinement::None;
        assert_eq!(readable, [true, free, true, free]);
    }
}
