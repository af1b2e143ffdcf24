//! The shared tree: from a node id to an open file of the host.
//!
//! A node's path is opened from the share's root, or from the nearest directory that is still
//! open, and what is found must be the file that the node was when it was looked up. What is not
//! there any more, or is another file, is stale, upon which the guest looks the name up again.
//! Descriptors of an immutable share are kept for a while; those of a changing one never, so
//! that nothing is read in a directory that has been moved out of the share, nor written there.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{OFlags, Stat, fstat, readlinkat_raw};
use rustix::io::Errno;

use super::budget::Budget;
use super::cache::Cache;
use super::content::Content;
use super::handles::Open;
use super::host::{self, CONTENT, LISTING, PLACE};
use super::lock;
use super::nodes::{Found, Identity, Kind, Nodes};
use super::wire::ROOT_ID;

/// Directories kept open to look names up in. A start of a large program passes through about a
/// hundred.
const PLACES_MAX: usize = 256;

/// Files and listings kept open to read from. Together with the directories this is half of the
/// 1,024 descriptors that a process has by default.
const OPEN_MAX: usize = 256;

/// Longest target of a symbolic link, which Linux limits to `PATH_MAX` with its NUL.
pub const TARGET_BYTES_MAX: usize = 4096;

/// A directory of the host, and the nodes that the guest knows of it.
pub struct Tree {
    root: Arc<OwnedFd>,
    root_dev: u32,
    /// As [`Content::Writable`] has it.
    closed: Option<u64>,
    immutable: bool,
    writable: bool,
    /// Node ids given to the guest.
    pub nodes: Mutex<Nodes>,
    places: Mutex<Cache<Arc<OwnedFd>>>,
    open: Mutex<Cache<Arc<Open>>>,
}

impl Tree {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// As [`host::open_root`].
    pub fn open(path: &Path, content: &Content, budget: Arc<Budget>) -> anyhow::Result<Self> {
        let immutable = content.immutable();
        let root = host::open_root(path)?;
        let identity = host::identity(&fstat(&root)?);
        let (places_max, open_max) = if immutable {
            (PLACES_MAX, OPEN_MAX)
        } else {
            (0, 0)
        };
        Ok(Self {
            root: Arc::new(root),
            root_dev: identity.dev,
            closed: content.closed(),
            immutable,
            writable: content.writable(),
            nodes: Mutex::new(Nodes::new(identity, budget)),
            places: Mutex::new(Cache::new(places_max)),
            open: Mutex::new(Cache::new(open_max)),
        })
    }

    /// The root directory.
    pub fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Host device of the root.
    pub fn root_dev(&self) -> u32 {
        self.root_dev
    }

    /// What tells the node of a file apart from others. A file of a writable share is one node
    /// under all its names, as in a file system of the guest's own; so is one that never changes,
    /// where it does not matter by which of them it is opened.
    pub fn found(&self, stat: &Stat) -> Found {
        let identity = host::identity(stat);
        let linked = if self.immutable {
            identity.kind == Kind::File && stat.st_nlink > 1
        } else {
            self.writable && identity.kind != Kind::Directory
        };
        if !linked && self.path_is_file(identity.kind) {
            let identity = Identity::of_path(identity.kind);
            return Found { identity, linked };
        }
        Found { identity, linked }
    }

    /// Forgets every node, and closes what was kept open.
    pub fn clear(&self) {
        lock(&self.nodes).clear();
        self.close_kept();
    }

    /// A directory, to look names up in.
    ///
    /// # Errors
    /// `ENOTDIR`; `ESTALE` when it is gone.
    pub fn place(&self, node: u64) -> Result<Arc<OwnedFd>, Errno> {
        let identity = lock(&self.nodes).identity(node)?;
        if identity.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let mut names = Vec::new();
        let mut above = node;
        let base = loop {
            // Ends at the root, which is above every node.
            if let Some(base) = self.kept_place(above) {
                break base;
            }
            let place = lock(&self.nodes).place(above)?.ok_or(Errno::STALE)?;
            names.push(place.name);
            above = place.parent;
        };
        if names.is_empty() {
            return Ok(base);
        }
        let open = || host::open_path(&base, names.iter().rev());
        let (place, _) = self.check(identity, self.with_room(open))?;
        let place = Arc::new(place);
        lock(&self.places).put(node, place.clone());
        Ok(place)
    }

    /// What the file of a node is now.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub fn stat(&self, node: u64) -> Result<Stat, Errno> {
        let place = lock(&self.nodes).place(node)?;
        let Some(place) = place else {
            return fstat(&self.root);
        };
        let directory = self.place(place.parent)?;
        let stat = host::stat_name(&directory, place.name.bytes()).map_err(stale)?;
        self.check_identity(place.identity, &stat)?;
        Ok(stat)
    }

    /// Opens what a node is now, whatever it is, only to reach it.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub fn open_place(&self, node: u64) -> Result<OwnedFd, Errno> {
        let identity = lock(&self.nodes).identity(node)?;
        self.open_with(node, identity, PLACE).map(|(fd, _)| fd)
    }

    /// Opens a file for `access` (`O_RDONLY` or another) or a directory for its listing.
    ///
    /// # Errors
    /// `ELOOP` for a link and `EACCES` for what is neither; `ESTALE` when it is gone.
    pub fn open_node(&self, node: u64, access: OFlags) -> Result<Open, Errno> {
        let identity = lock(&self.nodes).identity(node)?;
        let flags = match identity.kind {
            Kind::File => CONTENT | access,
            Kind::Directory => LISTING,
            Kind::Symlink => return Err(Errno::LOOP),
            Kind::Special => return Err(Errno::ACCESS),
        };
        let (fd, stat) = self.open_with(node, identity, flags)?;
        Ok(Open::new(node, host::identity(&stat), fd))
    }

    /// A file or a directory open for reading, kept open for the next time.
    ///
    /// # Errors
    /// As [`Tree::open_node`].
    pub fn kept_open(&self, node: u64) -> Result<Arc<Open>, Errno> {
        let kept = lock(&self.open).get(node);
        if let Some(open) = kept {
            return Ok(open);
        }
        let open = Arc::new(self.open_node(node, OFlags::RDONLY)?);
        lock(&self.open).put(node, open.clone());
        Ok(open)
    }

    /// Reads the target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL`: it is no link.
    pub fn target<'a>(
        &self,
        node: u64,
        buffer: &'a mut [u8; TARGET_BYTES_MAX],
    ) -> Result<&'a [u8], Errno> {
        let identity = lock(&self.nodes).identity(node)?;
        if identity.kind != Kind::Symlink {
            return Err(Errno::INVAL);
        }
        let (link, _) = self.open_with(node, identity, PLACE)?;
        let bytes = readlinkat_raw(&link, c"", &mut buffer[..])?;
        buffer.get(..bytes).ok_or(Errno::IO)
    }

    fn open_with(
        &self,
        node: u64,
        identity: Identity,
        flags: OFlags,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let place = lock(&self.nodes).place(node)?;
        let open = || match &place {
            None => host::open_beneath(&self.root, b".", flags),
            Some(place) => {
                let directory = self.place(place.parent)?;
                host::open_beneath(&directory, place.name.bytes(), flags)
            }
        };
        self.check(identity, self.with_room(open))
    }

    /// Opens; where the host has no descriptor left, once more without those kept.
    fn with_room(&self, open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.close_kept();
                open()
            }
            done => done,
        }
    }

    /// Refuses another file than the node was, and what is never opened.
    fn check(
        &self,
        known: Identity,
        opened: Result<OwnedFd, Errno>,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let opened = opened.map_err(stale)?;
        let stat = fstat(&opened)?;
        self.check_identity(known, &stat)?;
        let is_elsewhere = host::identity(&stat).dev != self.root_dev;
        if is_elsewhere && (self.closed == Some(stat.st_dev) || host::is_proc(&opened)?) {
            return Err(Errno::ACCESS);
        }
        Ok((opened, stat))
    }

    fn check_identity(&self, known: Identity, stat: &Stat) -> Result<(), Errno> {
        let now = host::identity(stat);
        let same = if self.path_is_file(now.kind) {
            now.kind == known.kind
        } else {
            now == known
        };
        if same { Ok(()) } else { Err(Errno::STALE) }
    }

    /// Whether what is at a node's path is the node, whatever its number. So it is where nothing
    /// changes: `nix-store --optimise` may still replace a file by its like. And so is any
    /// directory: overlayfs numbers one anew each time that it had to forget it, and what is in
    /// another one of the same path has nodes of its own.
    fn path_is_file(&self, kind: Kind) -> bool {
        self.immutable || kind == Kind::Directory
    }

    /// The root is always open.
    fn kept_place(&self, node: u64) -> Option<Arc<OwnedFd>> {
        if node == ROOT_ID {
            return Some(self.root.clone());
        }
        lock(&self.places).get(node)
    }

    fn close_kept(&self) {
        lock(&self.places).clear();
        lock(&self.open).clear();
    }
}

/// A known node's name that leads nowhere, or through what is no directory now, is a stale node.
/// The guest then asks for the name again (`LOOKUP_REVAL`) and learns what is there now.
fn stale(error: Errno) -> Errno {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::STALE,
        other => other,
    }
}
