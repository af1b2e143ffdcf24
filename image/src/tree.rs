//! A tree in memory, to which layers are applied: names that lead to nodes, links that are followed
//! within it.
//!
//! The one thing to know: a name knows which layer it is of. A whiteout hides what lower layers
//! have put there, and nothing of its own, wherever in the layer it stands.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail, ensure};
use devices::virtio::fs::catalog::{Body, Node};

use crate::entries::ENTRIES_MAX;

/// Links that are followed to one name, as Linux has it (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Components that are walked to one name: links may lead from one to the next, each of which has
/// `PATH_MAX` bytes.
const COMPONENTS_MAX: usize = LINKS_MAX * 4096;

/// Place of the root in the list of nodes.
pub const ROOT: usize = 0;

const DIRECTORY: u32 = 0o040_000;

/// What is in a node.
pub enum Inside {
    /// Names, where they lead to, and the layer that put each there.
    Folder(BTreeMap<Vec<u8>, (usize, usize)>),
    /// What has no names in it.
    Leaf(Body),
}

/// A file of whatever kind.
pub struct Inode {
    /// What it is but for its body.
    pub facts: Node,
    /// What is in it.
    pub inside: Inside,
}

/// A tree.
pub struct Tree {
    /// Nodes that no name leads to any more are among them.
    nodes: Vec<Inode>,
}

/// Whether folders that are missing on the way are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are made, of this layer.
    Make { layer: usize },
    /// They are not there.
    Absent,
}

impl Tree {
    /// Nothing but a root.
    pub fn new() -> Self {
        Self {
            nodes: vec![folder()],
        }
    }

    /// The node of a number, to change it.
    pub fn node_mut(&mut self, number: usize) -> &mut Inode {
        &mut self.nodes[number]
    }

    /// A new node, which has no name yet.
    pub fn add(&mut self, inode: Inode) -> Result<usize> {
        ensure!(
            self.nodes.len() < ENTRIES_MAX,
            "the image has more than {ENTRIES_MAX} files"
        );
        self.nodes.push(inode);
        Ok(self.nodes.len() - 1)
    }

    /// The folder at `path`, and those on the way to it from the root on with their names. Links are
    /// followed, as by a process whose root is the image's.
    ///
    /// # Errors
    /// Something on the way is no folder, or links lead round in a circle.
    pub fn walk(&mut self, path: &[Vec<u8>], missing: Missing) -> Result<Option<Way>> {
        let mut left: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut way = Way::default();
        let (mut links, mut walked) = (0, 0);
        while let Some(name) = left.pop_front() {
            walked += 1;
            ensure!(walked <= COMPONENTS_MAX, "links lead too far");
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    way.leads_out |= way.folders.pop().is_none();
                    continue;
                }
                _ => {}
            }
            let here = way.end();
            let child = match (self.child(here, &name), missing) {
                (Some((child, _)), _) => child,
                (None, Missing::Absent) => return Ok(None),
                (None, Missing::Make { layer }) => {
                    let child = self.add(folder())?;
                    self.put(here, &name, child, layer);
                    child
                }
            };
            match &self.nodes[child].inside {
                Inside::Folder(_) => way.folders.push((name, child)),
                Inside::Leaf(Body::Link(target)) => {
                    links += 1;
                    ensure!(links <= LINKS_MAX, "links lead round in a circle");
                    if target.starts_with(b"/") {
                        way.folders.clear();
                        way.leads_out = true;
                    }
                    for part in target.rsplit(|byte| *byte == b'/') {
                        left.push_front(part.into());
                    }
                }
                Inside::Leaf(_) if missing == Missing::Absent => return Ok(None),
                Inside::Leaf(_) => {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    bail!("{name:?} is no folder, but has something in it")
                }
            }
        }
        Ok(Some(way))
    }

    /// Where a name of a folder leads to, and the layer that it is of.
    pub fn child(&self, folder: usize, name: &[u8]) -> Option<(usize, usize)> {
        match &self.nodes[folder].inside {
            Inside::Folder(names) => names.get(name).copied(),
            Inside::Leaf(_) => None,
        }
    }

    /// Whether a node is a folder.
    pub fn is_folder(&self, node: usize) -> bool {
        matches!(self.nodes[node].inside, Inside::Folder(_))
    }

    /// Has a name of a folder lead to `child`.
    pub fn put(&mut self, folder: usize, name: &[u8], child: usize, layer: usize) {
        if let Inside::Folder(names) = &mut self.nodes[folder].inside {
            names.insert(name.into(), (child, layer));
        }
    }

    /// Takes a name out of a folder, with all below it.
    pub fn remove(&mut self, folder: usize, name: &[u8]) {
        if let Inside::Folder(names) = &mut self.nodes[folder].inside {
            names.remove(name);
        }
    }

    /// Marks the folders of a way as being of `layer`.
    pub fn mark(&mut self, way: &Way, layer: usize) {
        let mut above = ROOT;
        for (name, node) in &way.folders {
            self.put(above, name, *node, layer);
            above = *node;
        }
    }

    /// Takes all out of a folder that is not of `layer`.
    pub fn remove_lower(&mut self, folder: usize, layer: usize) {
        let mut left = vec![folder];
        while let Some(folder) = left.pop() {
            if let Inside::Folder(names) = &mut self.nodes[folder].inside {
                names.retain(|_, (_, of)| *of == layer);
                left.extend(names.values().map(|(child, _)| child));
            }
        }
    }

    /// The nodes that names lead to, the root first, each body with the numbers that they have there.
    pub fn into_nodes(self) -> Vec<Node> {
        let mut numbers = vec![None; self.nodes.len()];
        let mut order = vec![ROOT];
        numbers[ROOT] = Some(0);
        let mut next = 0;
        while let Some(number) = order.get(next).copied() {
            next += 1;
            if let Inside::Folder(names) = &self.nodes[number].inside {
                for (child, _) in names.values() {
                    if numbers[*child].is_none() {
                        numbers[*child] = Some(order.len() as u32);
                        order.push(*child);
                    }
                }
            }
        }
        let mut inodes: Vec<Option<Inode>> = self.nodes.into_iter().map(Some).collect();
        let take = |number: usize| {
            let inode = inodes[number].take()?;
            let body = match inode.inside {
                Inside::Leaf(body) => body,
                Inside::Folder(names) => {
                    let entries = names.into_iter();
                    let entries = entries.filter_map(|(name, (child, _))| {
                        Some((name.into_boxed_slice(), numbers[child]?))
                    });
                    Body::Directory(entries.collect())
                }
            };
            Some(Node {
                body,
                ..inode.facts
            })
        };
        order.into_iter().filter_map(take).collect()
    }
}

/// The folders from the root to one of them.
#[derive(Debug, Default)]
pub struct Way {
    /// With their names.
    folders: Vec<(Vec<u8>, usize)>,
    leads_out: bool,
}

impl Way {
    /// The folder at its end.
    pub fn end(&self) -> usize {
        self.folders.last().map_or(ROOT, |(_, node)| *node)
    }

    /// Whether it would have led out of the image, had a process with another root gone it.
    pub fn leads_out(&self) -> bool {
        self.leads_out
    }
}

/// A folder that no archive has said anything of.
pub fn folder() -> Inode {
    Inode {
        facts: Node {
            mode: DIRECTORY | 0o755,
            uid: 0,
            gid: 0,
            rdev: 0,
            modified: (0, 0),
            attributes: Vec::new(),
            body: Body::Special,
        },
        inside: Inside::Folder(BTreeMap::new()),
    }
}
