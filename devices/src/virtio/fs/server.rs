//! The server: one FUSE request in, one reply out.
//!
//! It is shared by the workers and locks only its tables, never across a system call. That a
//! share is read-only is decided here: no request that changes anything reaches the host, so the
//! guest's own mount flag does not matter. Every request but those that have no reply is
//! answered, however malformed it is, for a guest's program waits for it uninterruptibly.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::Fault;
use super::budget::Budget;
use super::content::Content;
use super::counters::Counters;
use super::freshness::Freshness;
use super::handles::Handles;
use super::lock;
use super::reply::{Failure, Sink};
use super::request::Request;
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
    pub(super) counters: Arc<Counters>,
}

impl Server {
    /// Opens the directory to share. What the guest makes it hold comes out of `budget`.
    ///
    /// # Errors
    /// It is no directory that this process may pass through.
    pub fn open(root: &Path, content: Content, budget: &Arc<Budget>) -> anyhow::Result<Self> {
        Ok(Self {
            tree: Tree::open(root, content.immutable(), budget.clone())?,
            content,
            handles: Mutex::new(Handles::new(budget.clone())),
            freshness: Mutex::new(Freshness::new()),
            session: Session::default(),
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

    /// Carries a request out. `request` holds its beginning, `total_bytes` is its length.
    /// Returns the bytes of the reply: 0 for a request that has none.
    ///
    /// # Errors
    /// The guest took away the memory that the reply goes to.
    pub fn handle(
        &self,
        request: &[u8],
        total_bytes: usize,
        reply: &mut dyn Sink,
    ) -> Result<usize, Fault> {
        let (header, done) = match Request::new(request, total_bytes) {
            Ok(request) => {
                self.counters.count_request(request.header.opcode);
                (request.header, self.serve(&request, reply))
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
        reply.finish(&OutHeader {
            len: u32::try_from(bytes).unwrap_or(u32::MAX),
            error,
            unique: header.unique,
        })
    }

    /// Ends the session: the device was reset. A request still being served finds no node.
    pub fn reset(&self) {
        self.session.end();
        self.forget_everything();
    }

    fn serve(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let wanted = request.header.opcode;
        if wanted == opcode::INIT {
            return self.init(request, reply);
        }
        let Some(flags) = self.session.flags() else {
            return Err(Errno::IO.into());
        };
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
            // Nothing of the guest's is ever unwritten.
            opcode::FSYNC | opcode::FSYNCDIR | opcode::SYNCFS | opcode::INTERRUPT => Ok(()),
            opcode::DESTROY => {
                self.reset();
                Ok(())
            }
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
