//! The node table: which file each node id of the guest means.
//!
//! A node is a name in a parent node, never a host descriptor: a walk costs 80 bytes a file, out
//! of the machine's [`Budget`], and no descriptor. Ids are dense and carry a generation, so that
//! an id that was given back never means another file. A node stays while the guest holds lookups
//! on it or on anything below it, for the path to a child leads through its parents.
//!
//! In a writable share the guest moves nodes itself (`moves.rs`): a renamed directory takes all
//! below it along, since they are below the node and not below its name. A file is one node under
//! all its names, so that the guest has one inode of it, and is found at the name seen last. What
//! the guest has removed is gone: no name leads to its node any more, whatever is there.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use rustix::io::Errno;

use super::budget::Budget;
use super::name::{Name, OwnName};
use super::wire::ROOT_ID;

mod moves;

pub use moves::{At, Found};

/// What kind of file a node is: decides what may be asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file, the only kind that is ever opened for its content.
    File,
    /// A directory, the only kind that has names in it.
    Directory,
    /// A symbolic link: has a target, which only the guest follows.
    Symlink,
    /// A device node, FIFO or socket: has attributes, nothing more.
    Special,
}

/// Which host file a node was when its name was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Inode number on the host; 0, which no file has, for whatever is at the node's path.
    pub ino: u64,
    /// Host device, in the 32 bits that Linux keeps of it.
    pub dev: u32,
    /// Kind.
    pub kind: Kind,
}

impl Identity {
    /// What is at a path, as long as it is of this kind.
    pub fn of_path(kind: Kind) -> Self {
        let (ino, dev) = (0, 0);
        Self { ino, dev, kind }
    }
}

/// Where a node is: its path is its parent's and its name.
#[derive(Clone, Debug)]
pub struct Place {
    /// Parent node.
    pub parent: u64,
    /// Name in the parent.
    pub name: OwnName,
    /// What was there.
    pub identity: Identity,
}

struct Slot {
    /// Of the node here, or of the next one.
    generation: u32,
    node: Option<Node>,
}

struct Node {
    name: OwnName,
    lookups: u64,
    ino: u64,
    /// Slot of the parent.
    parent: u32,
    dev: u32,
    /// Nodes whose parent this is.
    children: u32,
    kind: Kind,
    /// Found by its identity, whatever the name.
    linked: bool,
    /// Removed by the guest: not in the index, and at no place.
    gone: bool,
}

/// What the index finds a node by.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Name(u32, &'a [u8], Identity),
    Link(Identity),
}

impl Node {
    fn key(&self) -> Key<'_> {
        if self.linked {
            Key::Link(self.identity())
        } else {
            Key::Name(self.parent, self.name.bytes(), self.identity())
        }
    }

    fn identity(&self) -> Identity {
        let Self { ino, dev, kind, .. } = *self;
        Identity { ino, dev, kind }
    }
}

/// The nodes of one share.
pub struct Nodes {
    slots: Vec<Slot>,
    /// Slots without a node, which stay this share's until the session ends.
    free: Vec<u32>,
    /// Slots by the [`Key`] of their nodes.
    index: HashTable<u32>,
    hasher: RandomState,
    /// Taken from the budget, as is each slot but the root's.
    long_names_bytes: usize,
    /// Above every generation of the sessions before.
    first_generation: u32,
    budget: Arc<Budget>,
}

const ROOT: u32 = 0;

impl Nodes {
    /// The table of a share whose root is `root`.
    pub fn new(root: Identity, budget: Arc<Budget>) -> Self {
        let mut nodes = Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            long_names_bytes: 0,
            first_generation: 0,
            budget,
        };
        nodes.put_root(root);
        nodes
    }

    fn put_root(&mut self, root: Identity) {
        self.slots.push(Slot {
            generation: 0,
            node: Some(Node {
                name: OwnName::ROOT,
                lookups: 0,
                ino: root.ino,
                parent: ROOT,
                dev: root.dev,
                children: 0,
                kind: root.kind,
                linked: false,
                gone: false,
            }),
        });
    }

    /// Forgets every node but the root. Ids given out so far stay unknown for ever.
    pub fn clear(&mut self) {
        let Ok(root) = self.identity(ROOT_ID) else {
            return;
        };
        // The root's generation is 0 for ever.
        let used = self.slots.iter().skip(1);
        if let Some(highest) = used.map(|slot| slot.generation).max() {
            self.first_generation = highest.saturating_add(1);
        }
        self.budget
            .nodes
            .give_back(self.slots.len().saturating_sub(1));
        self.budget
            .long_names_bytes
            .give_back(self.long_names_bytes);
        self.slots = Vec::new();
        self.free = Vec::new();
        self.index = HashTable::new();
        self.long_names_bytes = 0;
        self.put_root(root);
    }

    /// What a node is.
    ///
    /// # Errors
    /// `ESTALE`: the guest holds no such node.
    pub fn identity(&self, id: u64) -> Result<Identity, Errno> {
        self.find(id).map(|(_, node)| node.identity())
    }

    /// Where a node is; none for the root.
    ///
    /// # Errors
    /// As [`Nodes::identity`]; also `ESTALE` when it is gone.
    pub fn place(&self, id: u64) -> Result<Option<Place>, Errno> {
        let (slot, node) = self.find(id)?;
        if node.gone {
            return Err(Errno::STALE);
        }
        Ok((slot != ROOT).then(|| Place {
            parent: self.id(node.parent),
            name: node.name.clone(),
            identity: node.identity(),
        }))
    }

    /// The node of `name` in `parent`, found to be `identity`, with one lookup more. With
    /// `linked`, every name of that host file is one node, so that the guest caches it once, and
    /// this is the name that it is at from now on.
    ///
    /// # Errors
    /// `ESTALE` or `ENOTDIR` for the parent; `ENFILE` when the budget is spent.
    pub fn enter(
        &mut self,
        parent: u64,
        name: Name<'_>,
        identity: Identity,
        linked: bool,
    ) -> Result<u64, Errno> {
        let (parent, node) = self.find(parent)?;
        if node.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        if node.gone {
            return Err(Errno::STALE);
        }
        let node = Node {
            name: name.into(),
            lookups: 0,
            ino: identity.ino,
            parent,
            dev: identity.dev,
            children: 0,
            kind: identity.kind,
            linked,
            gone: false,
        };
        let slot = match self.slot_of(&node.key()) {
            Some(slot) => {
                self.put_at(slot, parent, name)?;
                slot
            }
            None => self.insert(node)?,
        };
        if let Some(node) = self.node_mut(slot) {
            node.lookups = node.lookups.saturating_add(1);
        }
        Ok(self.id(slot))
    }

    /// Refuses what would find no room for one node more, of this name.
    ///
    /// # Errors
    /// `ENFILE`: the budget is spent.
    pub fn room(&self, name: Name<'_>) -> Result<(), Errno> {
        let has_slot = !self.free.is_empty() || self.budget.nodes.has(1);
        let name_bytes = OwnName::from(name).heap_bytes();
        if has_slot && self.budget.long_names_bytes.has(name_bytes) {
            return Ok(());
        }
        Err(Errno::NFILE)
    }

    /// Gives `lookups` of a node back. More than there are, an unknown id or the root: no harm.
    pub fn forget(&mut self, id: u64, lookups: u64) {
        let Ok((slot, _)) = self.find(id) else {
            return;
        };
        if let Some(node) = self.node_mut(slot) {
            node.lookups = node.lookups.saturating_sub(lookups);
        }
        self.remove_unused(slot);
    }

    /// Removes a node that nothing needs any more, and so its parents.
    fn remove_unused(&mut self, mut slot: u32) {
        // Ends at the root at the latest.
        while let Some(parent) = self.remove_if_unused(slot) {
            slot = parent;
        }
    }

    fn insert(&mut self, node: Node) -> Result<u32, Errno> {
        let (parent, name_bytes) = (node.parent, node.name.heap_bytes());
        if !self.budget.long_names_bytes.take(name_bytes) {
            return Err(Errno::NFILE);
        }
        let Some(slot) = self.take_slot(node) else {
            self.budget.long_names_bytes.give_back(name_bytes);
            return Err(Errno::NFILE);
        };
        self.long_names_bytes = self.long_names_bytes.saturating_add(name_bytes);
        if let Some(parent) = self.node_mut(parent) {
            parent.children = parent.children.saturating_add(1);
        }
        self.index(slot);
        Ok(slot)
    }

    /// Has a node found by its key.
    fn index(&mut self, slot: u32) {
        let Self {
            index,
            slots,
            hasher,
            ..
        } = self;
        let hash = |slot: &u32| {
            let node = slots
                .get(*slot as usize)
                .and_then(|slot| slot.node.as_ref());
            // Only slots with a node are in the index.
            node.map_or(0, |node| hasher.hash_one(node.key()))
        };
        index.insert_unique(hash(&slot), slot, hash);
    }

    /// Has a node found no more.
    fn unindex(&mut self, slot: u32) {
        let Some(node) = self.node(slot) else { return };
        let hash = self.hasher.hash_one(node.key());
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == slot) {
            entry.remove();
        }
    }

    fn slot_of(&self, key: &Key<'_>) -> Option<u32> {
        let is_it = |slot: &u32| self.node(*slot).is_some_and(|known| known.key() == *key);
        self.index.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// A free slot, or one more if the budget has one.
    fn take_slot(&mut self, node: Node) -> Option<u32> {
        if let Some(free) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(free as usize)
        {
            slot.node = Some(node);
            return Some(free);
        }
        if !self.budget.nodes.take(1) {
            return None;
        }
        // The budget is far below 2^32.
        let new = self.slots.len() as u32;
        self.slots.push(Slot {
            generation: self.first_generation,
            node: Some(node),
        });
        Some(new)
    }

    /// Removes a node that nothing needs any more; its parent, if there was such a node.
    fn remove_if_unused(&mut self, slot: u32) -> Option<u32> {
        let node = self.node(slot)?;
        if slot == ROOT || node.lookups > 0 || node.children > 0 {
            return None;
        }
        self.unindex(slot);
        let place = self.slots.get_mut(slot as usize)?;
        let node = place.node.take()?;
        let name_bytes = node.name.heap_bytes();
        self.budget.long_names_bytes.give_back(name_bytes);
        self.long_names_bytes = self.long_names_bytes.saturating_sub(name_bytes);
        // A slot that has used up its generations is left empty for good.
        if let Some(generation) = place.generation.checked_add(1) {
            place.generation = generation;
            self.free.push(slot);
        }
        if let Some(parent) = self.node_mut(node.parent) {
            parent.children = parent.children.saturating_sub(1);
        }
        Some(node.parent)
    }

    /// Splits an id into generation and slot, and finds the node.
    fn find(&self, id: u64) -> Result<(u32, &Node), Errno> {
        let generation = (id >> 32) as u32;
        let slot = (id as u32).checked_sub(1).ok_or(Errno::STALE)?;
        self.slots
            .get(slot as usize)
            .filter(|found| found.generation == generation)
            .and_then(|found| found.node.as_ref())
            .map(|node| (slot, node))
            .ok_or(Errno::STALE)
    }

    /// The id of the node in a slot: never 0, and [`ROOT_ID`] for the root.
    fn id(&self, slot: u32) -> u64 {
        let generation = self
            .slots
            .get(slot as usize)
            .map_or(0, |slot| slot.generation);
        u64::from(generation) << 32 | u64::from(slot).saturating_add(1)
    }

    fn node(&self, slot: u32) -> Option<&Node> {
        self.slots.get(slot as usize)?.node.as_ref()
    }

    fn node_mut(&mut self, slot: u32) -> Option<&mut Node> {
        self.slots.get_mut(slot as usize)?.node.as_mut()
    }
}

#[cfg(test)]
mod tests;
