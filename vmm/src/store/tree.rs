//! The files of a closure as a tree, and how they are found again.
//!
//! The one thing to know: nothing is followed. A folder is opened in its parent, and a file below the
//! store without links, so that neither leads out of the closure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::fs::{open, openat, openat2, readlinkat, statat};

use super::erofs::{Extent, Kind, Node, Tree};
use crate::closure::{STORE_DIR, StorePath};

/// Folders in folders; a store of npm packages has some dozens.
const DEPTH_MAX: usize = 256;

/// `PATH_MAX` without its NUL: what is deeper is reached in steps.
const PATH_BYTES_MAX: usize = 4095;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A folder of the host that files are found in.
pub struct Root(OwnedFd);

impl Root {
    /// The store.
    ///
    /// # Errors
    /// There is none.
    pub fn store() -> Result<Self> {
        Self::at(Path::new(STORE_DIR))
    }

    /// The folder at `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn at(path: &Path) -> Result<Self> {
        let opened = open(path, FOLDER, Mode::empty());
        Ok(Self(opened.with_context(|| {
            format!("cannot open {}", path.display())
        })?))
    }

    /// The tree of those entries of it that are `names`, each of which there must be.
    ///
    /// # Errors
    /// One cannot be read, or is nothing that a store has.
    pub fn tree(&self, names: &BTreeSet<&str>) -> Result<Tree> {
        let mut walk = Walk::default();
        let facts = rustix::fs::fstat(&self.0)?;
        let top = walk.folder(&facts, 0);
        for name in names {
            let found = walk.enter(self.0.as_fd(), top, name.as_bytes());
            found.with_context(|| format!("cannot read {name}"))?;
        }
        Ok(walk.tree)
    }

    /// What tells a store path from one that was deleted and built again, maybe to other bytes: its
    /// inode, and when that has changed.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn mark(&self, name: &str) -> Result<(u64, i64, u64)> {
        let facts = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("cannot look at {name}"))?;
        Ok((facts.st_ino, facts.st_ctime, facts.st_ctime_nsec))
    }

    /// Opens the regular file at `path` below it.
    ///
    /// # Errors
    /// It is none, or a link is on the way.
    pub fn file(&self, path: &[u8]) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (mut folder, mut rest) = (None::<OwnedFd>, path);
        loop {
            let from = folder.as_ref().unwrap_or(&self.0);
            if rest.len() <= PATH_BYTES_MAX {
                let file = openat2(from, rest, flags, Mode::empty(), RESOLVE)?;
                let file = File::from(file);
                ensure!(file.metadata()?.is_file(), "it is not a regular file");
                return Ok(file);
            }
            let cut = rest[..PATH_BYTES_MAX]
                .iter()
                .rposition(|byte| *byte == b'/');
            let cut = cut.filter(|cut| *cut > 0).context("a name is too long")?;
            let next = openat2(from, &rest[..cut], FOLDER, Mode::empty(), RESOLVE)?;
            (folder, rest) = (Some(next), &rest[cut + 1..]);
        }
    }
}

/// The names of store paths.
pub fn names(paths: &[StorePath]) -> BTreeSet<&str> {
    paths.iter().map(StorePath::base_name).collect()
}

/// A tree that grows.
#[derive(Default)]
struct Walk {
    tree: Tree,
    /// Where in the tree's top the walk is.
    path: Vec<u8>,
    depth: usize,
    /// Extents of files with several names, by device and inode.
    shared: BTreeMap<(u64, u64), usize>,
}

impl Walk {
    /// Adds an empty folder, and tells its number.
    fn folder(&mut self, facts: &Stat, parent: usize) -> usize {
        let entries = Vec::new();
        self.node(facts, Kind::Directory { parent, entries })
    }

    fn node(&mut self, facts: &Stat, kind: Kind) -> usize {
        let permissions = (facts.st_mode & 0o7777) as u16;
        self.tree.nodes.push(Node { permissions, kind });
        self.tree.nodes.len() - 1
    }

    /// Adds what is called `name` in `folder`, whose node is `parent`, with all that is in it.
    fn enter(&mut self, folder: impl AsFd, parent: usize, name: &[u8]) -> Result<()> {
        let before = self.path.len();
        if before > 0 {
            self.path.push(b'/');
        }
        self.path.extend(name);
        let facts = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let node = match FileType::from_raw_mode(facts.st_mode) {
            FileType::Directory => {
                let node = self.folder(&facts, parent);
                let opened = openat(&folder, name, FOLDER, Mode::empty())?;
                self.fill(&opened, node)?;
                node
            }
            FileType::Symlink => {
                let target = readlinkat(&folder, name, Vec::new())?;
                self.node(&facts, Kind::Link(target.into_bytes()))
            }
            FileType::RegularFile => {
                let extent = self.extent(&facts)?;
                self.node(&facts, Kind::File(extent))
            }
            _ => bail!("it is neither a file nor a folder nor a link, and no store has others"),
        };
        if let Kind::Directory { entries, .. } = &mut self.tree.nodes[parent].kind {
            entries.push((name.into(), node));
        }
        self.path.truncate(before);
        Ok(())
    }

    fn fill(&mut self, folder: &OwnedFd, node: usize) -> Result<()> {
        ensure!(
            self.depth < DEPTH_MAX,
            "its folders are more than {DEPTH_MAX} deep"
        );
        self.depth += 1;
        let mut names = Vec::new();
        for entry in Dir::read_from(folder)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(name);
            }
        }
        // The same tree makes the same bytes, whatever order the host lists it in.
        names.sort_unstable();
        for name in names {
            self.enter(folder, node, &name)
                .with_context(|| name.escape_ascii().to_string())?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn extent(&mut self, facts: &Stat) -> Result<Option<usize>> {
        let bytes = u64::try_from(facts.st_size)?;
        if bytes == 0 {
            return Ok(None);
        }
        let nth = self.tree.extents.len();
        let identity = (facts.st_dev, facts.st_ino);
        if facts.st_nlink > 1 {
            let known = *self.shared.entry(identity).or_insert(nth);
            if known < nth {
                return Ok(Some(known));
            }
        }
        let path = self.path.clone();
        self.tree.extents.push(Extent { path, bytes });
        Ok(Some(nth))
    }
}
