//! What the guest's own renames and removals do to the table.

use rustix::io::Errno;

use super::{Identity, Key, Kind, Nodes, ROOT};
use crate::virtio::fs::name::Name;

/// A name in a directory.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// Node of the directory.
    pub parent: u64,
    /// The name.
    pub name: Name<'a>,
}

/// What was found at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What tells its node apart from others at that name.
    pub identity: Identity,
    /// Whether it is one node under all its names.
    pub linked: bool,
}

impl Nodes {
    /// `found` is no longer at a name, which was its last.
    pub fn removed(&mut self, at: At<'_>, found: Found) {
        if let Some(slot) = self.known(at, found) {
            self.lose(slot);
        }
    }

    /// `found`, which was at `from`, is at `to` now.
    pub fn renamed(&mut self, from: At<'_>, to: At<'_>, found: Found) {
        if let Some(slot) = self.known(from, found) {
            self.move_to(slot, to);
        }
    }

    /// What was at `one` and what was at `other` have changed places.
    pub fn exchanged(&mut self, one: (At<'_>, Found), other: (At<'_>, Found)) {
        let (first, second) = (self.known(one.0, one.1), self.known(other.0, other.1));
        // What is found by its name is not to be in the other's way.
        if let Some(slot) = second.filter(|_| !other.1.linked) {
            self.unindex(slot);
        }
        if let Some(slot) = first {
            self.move_to(slot, other.0);
        }
        if let Some(slot) = second {
            self.move_to(slot, one.0);
        }
    }

    fn known(&self, at: At<'_>, found: Found) -> Option<u32> {
        let key = if found.linked {
            Key::Link(found.identity)
        } else {
            let (parent, _) = self.find(at.parent).ok()?;
            Key::Name(parent, at.name.bytes(), found.identity)
        };
        self.slot_of(&key)
    }

    /// The host has moved it already: where that cannot be noted, the node is lost.
    fn move_to(&mut self, slot: u32, to: At<'_>) {
        let moved = self
            .find(to.parent)
            .map(|(parent, _)| parent)
            .and_then(|parent| self.put_at(slot, parent, to.name));
        if moved.is_err() {
            self.lose(slot);
        }
    }

    /// Notes where a node is.
    ///
    /// # Errors
    /// `ELOOP`: it would be below itself, as when the host has moved directories meanwhile;
    /// `ENFILE` when the budget is spent.
    pub(super) fn put_at(&mut self, slot: u32, parent: u32, name: Name<'_>) -> Result<(), Errno> {
        let node = self.node(slot).ok_or(Errno::STALE)?;
        if node.parent == parent && node.name.bytes() == name.bytes() {
            return Ok(());
        }
        if node.kind == Kind::Directory && self.is_below(parent, slot) {
            return Err(Errno::LOOP);
        }
        let (name, old_bytes) = (super::OwnName::from(name), node.name.heap_bytes());
        let new_bytes = name.heap_bytes();
        if !self.budget.long_names_bytes.take(new_bytes) {
            return Err(Errno::NFILE);
        }
        self.budget.long_names_bytes.give_back(old_bytes);
        let bytes = self.long_names_bytes.saturating_add(new_bytes);
        self.long_names_bytes = bytes.saturating_sub(old_bytes);
        self.unindex(slot);
        let node = self.node_mut(slot).ok_or(Errno::STALE)?;
        let old_parent = std::mem::replace(&mut node.parent, parent);
        node.name = name;
        self.take_place(slot);
        if let Some(parent) = self.node_mut(parent) {
            parent.children = parent.children.saturating_add(1);
        }
        if let Some(parent) = self.node_mut(old_parent) {
            parent.children = parent.children.saturating_sub(1);
        }
        self.remove_unused(old_parent);
        Ok(())
    }

    /// Has a node found by its key, and what was found by it before no more.
    fn take_place(&mut self, slot: u32) {
        let in_the_way = self.node(slot).and_then(|node| self.slot_of(&node.key()));
        if let Some(other) = in_the_way {
            self.lose(other);
        }
        self.index(slot);
    }

    /// Whether `slot` is `above` or below it.
    fn is_below(&self, mut slot: u32, above: u32) -> bool {
        // Ends at the root: this very check keeps circles out of the table.
        while slot != above {
            match self.node(slot) {
                Some(node) if slot != ROOT => slot = node.parent,
                _ => return false,
            }
        }
        true
    }

    fn lose(&mut self, slot: u32) {
        self.unindex(slot);
        if let Some(node) = self.node_mut(slot) {
            node.gone = true;
        }
    }
}
