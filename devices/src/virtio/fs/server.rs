//! The server: one FUSE request in, one reply out.
//!
//! It is shared by the workers and locks only its tables, never across a system call, but for one
//! lock of writable shares: while the guest renames or removes, no path is walked, since a path is
//! right only as long as host and node table agree on it. That a share is read-only is decided
//! here: no request that changes anything reaches the host, so the guest's own mount flag does not
//! matter. Every request but those that have no reply is
//! answered, however malformed it is, for a guest's program waits for it uninterruptibly.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::ensure;
use rustix::io::Errno;

use super::super::Fault;
use super::budget::Budget;
use super::content::Content;
use super::counters::Counters;
use super::freshness::Freshness;
use super::handles::Handles;
use super::lock;
use super::reply::{Failure, Sink, Source};
use super::request::Request;
use super::reserve::Reserve;
use super::session::{self, Agreement, Session};
use super::tree::Tree;
use super::wire::{InitIn, InitInExt, OutHeader, opcode};

/// A share's server.
pub struct Server {
    pub(super) content: Content,
    pub(super) tree: Tree,
    pub(super) handles: Mutex<Handles>,
    pub(super) freshness: Mutex<Freshness>,
    pub(super) session: Session,
    pub(super) reserve: Reserve,
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
            paths: RwLock::default(),
            counters: Arc::default(),
        })
    }

    /// The directory that is shared.
    pub fn root(&self) -> Arc<OwnedFd> {
        self.tree.root().clone()
    }

    /// What was asked so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Carries a request out. `request` holds its beginning, `source` has all of it.
    /// Returns the bytes of the reply: 0 for a request that has none.
    ///
    /// # Errors
    /// The guest took away the memory that the reply goes to, or that its data are in.
    pub fn handle(
        &self,
        request: &[u8],
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<usize, Fault> {
        let (header, done) = match Request::new(request, source.total_bytes()) {
            Ok(request) => {
                self.counters.count_request(request.header.opcode);
                (request.header, self.serve(&request, source, reply))
            }
            Err((header, error)) => (header, Err(error.into())),
        };
        let no_reply = [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT];
        if no_reply.contains(&header.opcode) {
            return Ok(0);
        }
        let (error, body_bytes) = match done {
            Ok(()) => (0, reply.body_bytes()),
            Err(Failure::Refused(error)) => (error.raw_os_error().saturating_neg(), 0),
            Err(Failure::Broken(fault)) => return Err(fault),
        };
        let bytes = body_bytes.saturating_add(size_of::<OutHeader>());
        let replied = reply.finish(&OutHeader {
            len: u32::try_from(bytes).unwrap_or(u32::MAX),
            error,
            unique: header.unique,
        })?;
        self.counters.count_reply(replied);
        Ok(replied)
    }

    /// Ends the session: the device was reset. A request still being served finds no node.
    pub fn reset(&self) {
        self.session.end();
        self.forget_everything();
    }

    fn serve(
        &self,
        request: &Request<'_>,
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let wanted = request.header.opcode;
        if wanted == opcode::INIT {
            return self.init(request, reply);
        }
        let Some(flags) = self.session.flags() else {
            return Err(Errno::IO.into());
        };
        let paths = (self.content.writable()).then(|| paths_of(wanted));
        let _walked = (paths == Some(Paths::Walked))
            .then(|| self.paths.read().unwrap_or_else(PoisonError::into_inner));
        let _changed = (paths == Some(Paths::Changed))
            .then(|| self.paths.write().unwrap_or_else(PoisonError::into_inner));
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
            opcode::INTERRUPT => Ok(()),
            opcode::DESTROY => {
                self.reset();
                Ok(())
            }
            _ if self.content.writable() => self.change(request, source, reply),
            // Nothing of the guest's is ever unwritten.
            opcode::FSYNC | opcode::FSYNCDIR | opcode::SYNCFS => Ok(()),
            opcode::SETATTR
            | opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::LINK
            | opcode::WRITE
            | opcode::SETXATTR
            | opcode::REMOVEXATTR
            | opcode::CREATE
            | opcode::FALLOCATE
            | opcode::RENAME2
            | opcode::COPY_FILE_RANGE
            | opcode::TMPFILE => Err(Errno::ROFS.into()),
            // What is not offered, so that the guest asks once or not at all: extended
            // attributes, holes, locks (kept in the guest), FLUSH, ACCESS, STATX, DAX windows.
            _ => Err(Errno::NOSYS.into()),
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
        let guest: InitIn = request.arguments()?;
        let extension = request.list::<InitIn, InitInExt>(1);
        let extension = extension.ok().and_then(|mut list| list.next());
        match session::negotiate(&guest, extension, self.content.flags())? {
            Agreement::AskAgain(answer) => reply.put_object(&answer),
            Agreement::Agreed(flags, answer) => {
                reply.put_object(&answer)?;
                self.forget_everything();
                self.session.begin(flags);
                Ok(())
            }
        }
    }

    fn forget_everything(&self) {
        self.tree.clear();
        lock(&self.handles).clear();
        lock(&self.freshness).clear();
    }
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
