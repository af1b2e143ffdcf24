//! The guest's side of the oracle: names and nodes kept as Linux keeps dentries and inodes.
//!
//! What was looked up is not looked up again, so that nodes have to be where renames put them.
//! `ESTALE` makes it look again, once, as `LOOKUP_REVAL` does.

use std::collections::BTreeMap;
use std::path::Path;

use devices::virtio::fs::wire::{EntryOut, ROOT_ID};
use rustix::io::Errno;

use crate::changes::mount_writable;
use crate::client::Client;

/// Names from the root down.
pub type Names = Vec<&'static str>;

/// A guest with dentries.
pub struct Guest {
    /// Its share.
    pub client: Client,
    dentries: BTreeMap<Names, u64>,
    inodes: BTreeMap<u64, Inode>,
    /// How often it had to look again.
    pub looked_again: usize,
}

#[derive(Default)]
struct Inode {
    mode: u32,
    lookups: u64,
    /// Dentries and handles.
    users: usize,
}

impl Guest {
    /// Mounts a folder.
    pub fn new(root: &Path) -> Self {
        Self {
            client: mount_writable(root),
            dentries: BTreeMap::new(),
            inodes: BTreeMap::new(),
            looked_again: 0,
        }
    }

    /// The node at a path.
    pub fn node(&mut self, path: &[&'static str]) -> Result<u64, Errno> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(ROOT_ID);
        };
        if let Some(node) = self.dentries.get(path) {
            return Ok(*node);
        }
        let parent = self.node(parents)?;
        let entry = self.client.lookup(parent, name.as_bytes())?;
        self.found(path, &entry);
        Ok(entry.nodeid)
    }

    /// The node of a path's parent, and its last name.
    pub fn parent(&mut self, path: &[&'static str]) -> Result<(u64, &'static [u8]), Errno> {
        let (name, parents) = path.split_last().unwrap();
        let node = self.node(parents)?;
        match self.inodes.get(&node) {
            Some(inode) if inode.mode & libc::S_IFMT != libc::S_IFDIR => Err(Errno::NOTDIR),
            _ => Ok((node, name.as_bytes())),
        }
    }

    /// Does something with a path; once more where it is told that it knows it wrong.
    pub fn retry<T>(
        &mut self,
        paths: &[&[&'static str]],
        mut act: impl FnMut(&mut Self) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match act(self) {
            Err(Errno::STALE) => {
                self.looked_again += 1;
                for path in paths {
                    for end in 1..=path.len() {
                        self.revalidate(&path[..end]);
                    }
                }
                act(self)
            }
            done => done,
        }
    }

    /// Asks anew what a name is. What is below it stays known if it is the same node.
    fn revalidate(&mut self, path: &[&'static str]) {
        let Some(known) = self.dentries.get(path).copied() else {
            return;
        };
        let looked_up = self
            .parent(path)
            .and_then(|(parent, name)| self.client.lookup(parent, name));
        match looked_up {
            Ok(entry) if entry.nodeid == known => {
                self.inodes.get_mut(&known).unwrap().lookups += 1;
            }
            Ok(entry) => {
                self.drop_tree(path);
                self.found(path, &entry);
            }
            Err(_) => self.drop_tree(path),
        }
    }

    /// Notes an entry that the server gave for a name.
    pub fn found(&mut self, path: &[&'static str], entry: &EntryOut) {
        assert_ne!(entry.nodeid, 0);
        self.drop_tree(path);
        let inode = self.inodes.entry(entry.nodeid).or_default();
        inode.mode = entry.attr.mode;
        inode.lookups += 1;
        inode.users += 1;
        self.dentries.insert(path.to_vec(), entry.nodeid);
    }

    /// One user more of a node: a handle.
    pub fn hold(&mut self, node: u64) {
        self.inodes.get_mut(&node).unwrap().users += 1;
    }

    /// One user less.
    pub fn let_go(&mut self, node: u64) {
        let inode = self.inodes.get_mut(&node).unwrap();
        inode.users -= 1;
        if inode.users == 0 {
            self.client.forget(node, inode.lookups);
            self.inodes.remove(&node);
        }
    }

    /// Forgets a name and all below it.
    pub fn drop_tree(&mut self, path: &[&'static str]) {
        for path in self.below(path) {
            let node = self.dentries.remove(&path).unwrap();
            self.let_go(node);
        }
    }

    /// Moves what is known of one name to another, after a rename.
    pub fn moved(&mut self, from: &[&'static str], to: &[&'static str], exchanged: bool) {
        let first = self.take(from);
        let second = self.take(to);
        self.put(to, first);
        if exchanged {
            self.put(from, second);
        } else {
            for (_, node) in second {
                self.let_go(node);
            }
        }
    }

    fn take(&mut self, path: &[&'static str]) -> Vec<(Names, u64)> {
        let below = self.below(path);
        let taken = below.into_iter().map(|whole| {
            let node = self.dentries.remove(&whole).unwrap();
            (whole[path.len()..].to_vec(), node)
        });
        taken.collect()
    }

    fn put(&mut self, path: &[&'static str], taken: Vec<(Names, u64)>) {
        for (rest, node) in taken {
            self.dentries.insert([path, &rest].concat(), node);
        }
    }

    /// The deepest first, as dentries pin their parents.
    fn below(&self, path: &[&'static str]) -> Vec<Names> {
        let mut below: Vec<_> = self
            .dentries
            .keys()
            .filter(|known| known.starts_with(path))
            .cloned()
            .collect();
        below.reverse();
        below
    }
}
