//! The server: one FUSE request in, one reply out.
//!
//! It is shared by the workers and locks only its tables, never across a system call, but for two
//! locks. While a session begins or ends, no request is carried out, so that none leaves something
//! behind in the session after its own. Of writable shares: while the guest renames or removes, no
//! path is walked, since a path is right only as long as host and node table agree on it.
//!
//! That a share is read-only is decided here: no request that changes anything reaches the host, so
//! the guest's own mount flag does not matter.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::ensure;
use rustix::io::Errno;

use super::super::Fault;
use super::super::region::Region;
use super::budget::Budget;
use super::content::Content;
use super::counters::Counters;
use super::exchange::{self, Serve};
use super::freshness::Freshness;
use super::handles::Handles;
use super::lock;
use super::reply::{Failure, Sink, Source};
use super::request::Request;
use super::reserve::Reserve;
use super::session::Session;
use super::tree::Tree;
use super::window::Window;
use super::wire::{Flags, opcode};
use crate::log::Log;

/// Said of a guest that has a window and does not use it.
pub const NO_DAX: &str = "the guest's kernel cannot map the store's files, for it has no FUSE_DAX (or is older than Linux \
                      5.17): it reads them by requests";

/// A share's server.
pub struct Server {
    pub(super) content: Content,
    pub(super) tree: Tree,
    pub(super) handles: Mutex<Handles>,
    pub(super) freshness: Mutex<Freshness>,
    pub(super) session: Session,
    pub(super) reserve: Reserve,
    /// Of a share that never changes, if it has one.
    pub(super) window: Option<Window>,
    log: Log,
    /// Held while a request is carried out, and alone while a session begins or ends.
    sessions: RwLock<()>,
    /// Held while a path is walked, and alone while the guest changes where its files are.
    paths: RwLock<()>,
    pub(super) counters: Arc<Counters>,
}

impl Server {
    /// Opens the directory to share. What the guest makes it hold comes out of `budget`.
    ///
    /// # Errors
    /// It is no directory that this process may pass through; a writable share needs `/proc`.
    pub fn open(root: &Path, content: Content, budget: &Arc<Budget>) -> anyhow::Result<Self> {
        if content.writable() {
            ensure!(
                Path::new("/proc/self/fd").is_dir(),
                "cannot share {} writable: /proc is not mounted",
                root.display(),
            );
        }
        let tree = Tree::open(root, &content, budget.clone())?;
        Ok(Self {
            reserve: Reserve::new(tree.root().clone()),
            tree,
            content,
            handles: Mutex::new(Handles::new(budget.clone())),
            freshness: Mutex::new(Freshness::new()),
            session: Session::default(),
            window: None,
            log: Log::new(),
            sessions: RwLock::default(),
            paths: RwLock::default(),
            counters: Arc::default(),
        })
    }

    /// Has the guest read large files through a DAX window, which is `region`.
    ///
    /// # Errors
    /// The share's files change: a guest would be stopped by one that is cut short.
    pub fn with_window(mut self, region: Arc<Region>) -> anyhow::Result<Self> {
        ensure!(
            self.content.immutable(),
            "cannot map files that may be cut short"
        );
        self.window = Some(Window::new(region, self.counters.clone()));
        Ok(self)
    }

    /// The directory that is shared.
    pub fn root(&self) -> Arc<OwnedFd> {
        self.tree.root().clone()
    }

    /// What was asked so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    fn serve(
        &self,
        request: &Request<'_>,
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        match request.header.opcode {
            opcode::INIT => self.init(request, reply),
            opcode::DESTROY => self.destroy(),
            wanted => self.carry_out(wanted, request, source, reply),
        }
    }

    /// Carries out a request of a session.
    fn carry_out(
        &self,
        wanted: u32,
        request: &Request<'_>,
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let _goes_on = read(&self.sessions);
        let Some(flags) = self.session.flags() else {
            return Err(Errno::IO.into());
        };
        let paths = (self.content.writable()).then(|| paths_of(wanted));
        let _walked = (paths == Some(Paths::Walked)).then(|| read(&self.paths));
        let _changed = (paths == Some(Paths::Changed)).then(|| write(&self.paths));
        match wanted {
            opcode::LOOKUP => self.lookup(request, reply),
            opcode::FORGET => self.forget(request),
            opcode::BATCH_FORGET => self.batch_forget(request),
            opcode::GETATTR => self.getattr(request, reply),
            opcode::READLINK => self.readlink(request, reply),
            opcode::OPEN => self.open_file(request, flags, reply),
            opcode::OPENDIR => self.open_directory(request, flags, reply),
            opcode::READ => self.read(request, reply),
            opcode::READDIR | opcode::READDIRPLUS => self.readdir(request, reply),
            opcode::RELEASE | opcode::RELEASEDIR => self.release(request),
            opcode::STATFS => self.statfs(reply),
            opcode::SETUPMAPPING => self.setup_mapping(request),
            opcode::REMOVEMAPPING => self.remove_mapping(request),
            opcode::INTERRUPT => Ok(()),
            _ if self.content.writable() => self.change(request, source, reply),
            other => exchange::refuse_change(other),
        }
    }

    /// What only a writable share does.
    fn change(
        &self,
        request: &Request<'_>,
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        match request.header.opcode {
            opcode::CREATE => self.create(request, reply),
            opcode::MKNOD => self.mknod(request, reply),
            opcode::MKDIR => self.mkdir(request, reply),
            opcode::SYMLINK => self.symlink(request, reply),
            opcode::LINK => self.link(request, reply),
            opcode::UNLINK | opcode::RMDIR => self.remove(request),
            opcode::RENAME | opcode::RENAME2 => self.rename(request),
            opcode::SETATTR => self.setattr(request, reply),
            opcode::WRITE => self.write(request, source, reply),
            opcode::FSYNC | opcode::FSYNCDIR => self.fsync(request),
            opcode::SYNCFS => self.syncfs(),
            opcode::FALLOCATE => self.fallocate(request),
            opcode::LSEEK => self.lseek(request, reply),
            opcode::COPY_FILE_RANGE => self.copy_file_range(request, reply),
            opcode::GETXATTR => self.getxattr(request, reply),
            opcode::LISTXATTR => self.listxattr(request, reply),
            opcode::SETXATTR => self.setxattr(request, source),
            opcode::REMOVEXATTR => self.removexattr(request),
            // Locks are kept in the guest. O_TMPFILE has no name that a node could be at.
            _ => Err(Errno::NOSYS.into()),
        }
    }

    /// A second INIT is a new session, after a guest that went without DESTROY.
    fn init(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let mut flags = self.content.flags();
        if self.window.is_some() {
            flags |= Flags::MAP_ALIGNMENT | Flags::HAS_INODE_DAX;
        }
        let alone = write(&self.sessions);
        (self.session).answer(request, reply, flags, || self.forget_everything())?;
        drop(alone);
        let agreed = self.session.flags().filter(|_| self.window.is_some());
        let is_unused = agreed.is_some_and(|agreed| !agreed.contains(Flags::MAP_ALIGNMENT));
        self.counters.set_window_unused(is_unused);
        if is_unused {
            self.log.tell(format_args!("{NO_DAX}"));
        }
        Ok(())
    }

    fn destroy(&self) -> Result<(), Failure> {
        // As all others, where there is none to end.
        self.session.flags().ok_or(Errno::IO)?;
        self.reset();
        Ok(())
    }

    /// Alone (`sessions`).
    fn forget_everything(&self) {
        self.tree.clear();
        lock(&self.handles).clear();
        lock(&self.freshness).clear();
        if let Some(window) = &self.window {
            window.clear();
        }
    }
}

impl Serve for Server {
    fn handle(
        &self,
        request: &[u8],
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<usize, Fault> {
        exchange::answer(
            &self.counters,
            request,
            source,
            reply,
            |request, source, reply| self.serve(request, source, reply),
        )
    }

    fn reset(&self) {
        let _alone = write(&self.sessions);
        self.session.end();
        self.forget_everything();
    }
}

/// The lock, which no panic can have left half changed: it holds nothing.
fn read(lock: &RwLock<()>) -> RwLockReadGuard<'_, ()> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`], alone.
fn write(lock: &RwLock<()>) -> RwLockWriteGuard<'_, ()> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// What a request does with paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// Nothing: it is about open files, or about no file at all.
    None,
    Walked,
    Changed,
}

fn paths_of(opcode: u32) -> Paths {
    match opcode {
        opcode::RENAME | opcode::RENAME2 | opcode::UNLINK | opcode::RMDIR => Paths::Changed,
        opcode::READ
        | opcode::WRITE
        | opcode::FSYNC
        | opcode::FSYNCDIR
        | opcode::FALLOCATE
        | opcode::LSEEK
        | opcode::COPY_FILE_RANGE
        | opcode::RELEASE
        | opcode::RELEASEDIR
        | opcode::FORGET
        | opcode::BATCH_FORGET
        | opcode::STATFS
        | opcode::SYNCFS => Paths::None,
        _ => Paths::Walked,
    }
}
