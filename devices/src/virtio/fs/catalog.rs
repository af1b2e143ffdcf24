//! A tree that is data: names and attributes in memory, contents in a few files of the host.
//!
//! It is what an image's layers come to. Nothing of such a tree is a file of the host: an owner, a
//! set-uid bit, a device number or a link is what the guest is told and nothing else, so that a
//! user who is not root has images whole, and no name of an image is ever part of a host's path.
//! It never changes, and its server (`server.rs`) needs neither a node table nor handles: a node's
//! id is its place in the list and one more, since the first is [`ROOT_ID`].

mod server;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, ensure};

use super::name::Name;
use super::wire::ROOT_ID;
use super::{Serve, Share, Wall, device, request_queues};
use crate::Memory;

/// Nodes of a tree: tens of times what the largest images have, and below 1 GiB of memory.
pub const NODES_MAX: usize = 4 << 20;

/// `XATTR_LIST_MAX`: bytes of the names of one node's attributes, each with its NUL.
const ATTRIBUTE_NAMES_BYTES_MAX: usize = 64 << 10;

const TYPE_BITS: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// A file, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Seconds of the last change, and nanoseconds.
    pub modified: (i64, u32),
    /// Extended attributes.
    pub attributes: Vec<Attribute>,
    /// What is in it.
    pub body: Body,
}

/// An extended attribute: its name and its value.
pub type Attribute = (Box<[u8]>, Box<[u8]>);

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Names, in order, and the nodes that they are of.
    Directory(Vec<(Box<[u8]>, u32)>),
    /// Bytes of one of the tree's contents.
    File(Extent),
    /// Where the link points to.
    Link(Box<[u8]>),
    /// Nothing: a device node, FIFO or socket.
    Special,
}

/// A part of a file of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which of the tree's contents.
    pub content: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A tree.
#[derive(Debug)]
pub struct Catalog {
    nodes: Vec<Node>,
    /// Of each node: its names, or a directory's links.
    links: Vec<u32>,
    /// Of each node: the id of the directory that it is in, the last of a file of several names; 0
    /// of the root.
    parents: Vec<u64>,
    contents: Vec<OwnedFd>,
    has_attributes: bool,
}

impl Catalog {
    /// The tree of `nodes`, of which the first is the root.
    ///
    /// # Errors
    /// They are no tree: a name is none, out of order or leads nowhere, a directory has two names,
    /// a body is not of its mode's type.
    pub fn new(nodes: Vec<Node>, contents: Vec<OwnedFd>) -> anyhow::Result<Self> {
        ensure!(
            nodes.len() <= NODES_MAX,
            "a tree has more than {NODES_MAX} files"
        );
        let root = nodes.first().context("a tree without a root")?;
        ensure!(
            matches!(root.body, Body::Directory(_)),
            "the root of a tree is no directory"
        );
        let mut links = vec![0; nodes.len()];
        let mut parents = vec![0; nodes.len()];
        for (nth, node) in (0..).zip(&nodes) {
            ensure!(fits(node, &contents), "node {nth} of a tree is not whole");
            let Body::Directory(entries) = &node.body else {
                continue;
            };
            ensure!(
                entries.is_sorted_by(|(one, _), (next, _)| one < next),
                "names of node {nth} of a tree are out of order"
            );
            // Its own name, and its `.`.
            add_links(&mut links, nth, 2);
            for (name, child) in entries {
                let found = nodes.get(*child as usize).filter(|_| *child != 0);
                let found = found.filter(|_| Name::new(name).is_ok());
                let found =
                    found.with_context(|| format!("a name of node {nth} of a tree is none"))?;
                let parent = parents.get_mut(*child as usize).context("no such node")?;
                if matches!(found.body, Body::Directory(_)) {
                    ensure!(*parent == 0, "directory {child} of a tree has two names");
                    // The child's `..`.
                    add_links(&mut links, nth, 1);
                } else {
                    add_links(&mut links, *child, 1);
                }
                *parent = id(nth);
            }
        }
        let has_attributes = nodes.iter().any(|node| !node.attributes.is_empty());
        Ok(Self {
            nodes,
            links,
            parents,
            contents,
            has_attributes,
        })
    }

    /// The nodes, the root first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Takes names out of the directory at a place of the list: those that are not to be kept. It is
    /// done before the tree is served.
    pub fn retain(&mut self, directory: usize, keep: impl Fn(&[u8]) -> bool) {
        let Some(node) = self.nodes.get_mut(directory) else {
            return;
        };
        let Body::Directory(entries) = &mut node.body else {
            return;
        };
        let (kept, gone): (_, Vec<_>) = std::mem::take(entries)
            .into_iter()
            .partition(|(name, _)| keep(name));
        *entries = kept;
        for (_, child) in gone {
            let is_directory = (self.nodes.get(child as usize))
                .is_some_and(|child| matches!(child.body, Body::Directory(_)));
            let of = if is_directory {
                directory
            } else {
                child as usize
            };
            if let Some(links) = self.links.get_mut(of) {
                *links = links.saturating_sub(1);
            }
        }
    }

    /// All bytes of a file, which its reader has found to be few.
    ///
    /// # Errors
    /// As pread(2); the file was cut short.
    pub fn read(&self, extent: &Extent) -> io::Result<Vec<u8>> {
        let content = self.content(extent).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; usize::try_from(extent.bytes).unwrap_or(usize::MAX)];
        let mut done = 0;
        while let Some(left) = bytes.get_mut(done..).filter(|left| !left.is_empty()) {
            let at = extent.offset.saturating_add(done as u64);
            match rustix::io::pread(content, left, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done = done.saturating_add(read),
            }
        }
        Ok(bytes)
    }

    /// The node of an id that the guest has.
    fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.get(index(id)?)
    }

    fn content(&self, extent: &Extent) -> Option<BorrowedFd<'_>> {
        self.contents.get(extent.content as usize).map(AsFd::as_fd)
    }
}

/// Place of a node in the list.
fn index(id: u64) -> Option<usize> {
    usize::try_from(id.checked_sub(ROOT_ID)?).ok()
}

/// Id of a node.
fn id(index: u32) -> u64 {
    u64::from(index).saturating_add(ROOT_ID)
}

fn add_links(links: &mut [u32], of: u32, more: u32) {
    if let Some(links) = links.get_mut(of as usize) {
        *links = links.saturating_add(more);
    }
}

/// Whether a node is of its mode's type, and in contents that there are.
fn fits(node: &Node, contents: &[OwnedFd]) -> bool {
    let kind = node.mode & TYPE_BITS;
    let names: usize = node
        .attributes
        .iter()
        .map(|(name, _)| name.len().saturating_add(1))
        .fold(0, usize::saturating_add);
    let body = match &node.body {
        Body::Directory(_) => kind == DIRECTORY,
        Body::File(extent) => {
            let end = extent.offset.checked_add(extent.bytes);
            kind == REGULAR
                && (extent.content as usize) < contents.len()
                && end.is_some_and(|end| i64::try_from(end).is_ok())
        }
        Body::Link(_) => kind == SYMBOLIC_LINK,
        Body::Special => ![DIRECTORY, REGULAR, SYMBOLIC_LINK].contains(&kind),
    };
    body && names <= ATTRIBUTE_NAMES_BYTES_MAX
}

/// A tree to share with the guest.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that the guest mounts it by.
    pub tag: String,
    /// The tree.
    pub catalog: Arc<Catalog>,
    /// Virtual CPUs of the machine, as many of which may wait for files at once.
    pub vcpus: u16,
}

impl Config {
    /// The share. Its workers open nothing, and are confined to that.
    ///
    /// # Errors
    /// The tag is none.
    pub fn open(&self, memory: &Memory) -> anyhow::Result<Share> {
        super::check_tag(&self.tag, "a tree")?;
        let server = server::Server::new(self.catalog.clone());
        let wall = Arc::new(Wall::around_nothing());
        let counters = server.counters();
        let queues = request_queues(self.vcpus);
        let server: Arc<dyn Serve> = Arc::new(server);
        Ok(Share {
            device: device::assemble(&self.tag, queues, &server, &wall, memory),
            counters,
            wall,
        })
    }
}

#[cfg(test)]
mod tests;
