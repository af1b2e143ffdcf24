//! Open files: host descriptors that a guest's reads and writes go to.
//!
//! A share whose files never change opens and closes them as it likes. In one whose files do
//! change, an open file is what it was when it was opened, also after another took its name; so
//! it is held for the guest, and the number of those is limited: by the machine's [`Budget`], and
//! by the descriptors that the host gives this process.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::budget::Budget;
use super::nodes::Identity;

/// Descriptors of the process that no guest's open file gets: for connections, other devices
/// and files held for a moment.
const DESCRIPTORS_RESERVED: u64 = 128;

/// A file or directory that is open.
pub struct Open {
    /// Node that it was opened as.
    pub node: u64,
    /// The host's file.
    pub identity: Identity,
    /// The descriptor.
    pub fd: OwnedFd,
    /// Held while a directory's position is in use.
    pub position: Mutex<()>,
}

impl Open {
    /// A file just opened.
    pub fn new(node: u64, identity: Identity, fd: OwnedFd) -> Self {
        Self {
            node,
            identity,
            fd,
            position: Mutex::new(()),
        }
    }
}

/// The open files of one guest, by handle.
pub struct Handles {
    open: HashMap<u64, Arc<Open>>,
    last: u64,
    /// Descriptors from this number on are reserved.
    descriptor_limit: u64,
    budget: Arc<Budget>,
}

impl Handles {
    /// None open. The process's limit of descriptors is what it is now.
    pub fn new(budget: Arc<Budget>) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            open: HashMap::new(),
            last: 0,
            descriptor_limit: limit.saturating_sub(DESCRIPTORS_RESERVED),
            budget,
        }
    }

    /// Holds a file open, and names it. A name is never used again.
    ///
    /// # Errors
    /// `EMFILE`: too many are open. The kernel gives the lowest free number, so a high one means
    /// that the process has that many.
    pub fn insert(&mut self, open: Open) -> Result<u64, Errno> {
        let number = u64::try_from(open.fd.as_raw_fd()).unwrap_or(u64::MAX);
        if number >= self.descriptor_limit || !self.budget.handles.take(1) {
            return Err(Errno::MFILE);
        }
        self.last = self.last.wrapping_add(1);
        self.open.insert(self.last, Arc::new(open));
        Ok(self.last)
    }

    /// The file that was opened as `handle` of `node`.
    ///
    /// # Errors
    /// `EBADF`: there is no such file.
    pub fn get(&self, handle: u64, node: u64) -> Result<Arc<Open>, Errno> {
        self.open
            .get(&handle)
            .filter(|open| open.node == node)
            .cloned()
            .ok_or(Errno::BADF)
    }

    /// A file that is open of a node, by whichever handle.
    pub fn of_node(&self, node: u64) -> Option<Arc<Open>> {
        // No more than the budget has handles, and only for a file that has no name any more.
        self.open.values().find(|open| open.node == node).cloned()
    }

    /// Refuses what would find no room for one handle more.
    ///
    /// # Errors
    /// `EMFILE`: the budget is spent.
    pub fn room(&self) -> Result<(), Errno> {
        if self.budget.handles.has(1) {
            Ok(())
        } else {
            Err(Errno::MFILE)
        }
    }

    /// Ends an open file. A read in flight keeps its descriptor until it is done.
    ///
    /// # Errors
    /// As [`Handles::get`].
    pub fn remove(&mut self, handle: u64, node: u64) -> Result<(), Errno> {
        self.get(handle, node)?;
        self.open.remove(&handle);
        self.budget.handles.give_back(1);
        self.shrink();
        Ok(())
    }

    /// Ends all open files.
    pub fn clear(&mut self) {
        self.budget.handles.give_back(self.open.len());
        self.open = HashMap::new();
    }

    /// Gives the table's memory back with the budget, since another share's table may grow now.
    /// It keeps twice the room it needs, so that this is seldom.
    fn shrink(&mut self) {
        let wanted = self.open.len().saturating_mul(2);
        if self.open.capacity() / 4 > wanted {
            self.open.shrink_to(wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::fs::nodes::Kind;

    fn open(node: u64) -> Open {
        let identity = Identity {
            ino: 1,
            dev: 1,
            kind: Kind::File,
        };
        let file = std::fs::File::open("/dev/null").unwrap();
        Open::new(node, identity, file.into())
    }

    #[test]
    fn a_handle_is_of_one_node_until_it_is_removed() {
        let mut handles = Handles::new(Arc::default());
        let handle = handles.insert(open(5)).unwrap();
        assert_eq!(handles.get(handle, 5).unwrap().node, 5);
        assert_eq!(handles.get(handle, 6).err(), Some(Errno::BADF));
        assert_eq!(handles.remove(handle, 6), Err(Errno::BADF));
        assert_eq!(handles.remove(handle, 5), Ok(()));
        assert_eq!(handles.remove(handle, 5), Err(Errno::BADF));
        assert_ne!(handles.insert(open(5)).unwrap(), handle);
    }

    #[test]
    fn the_last_descriptors_are_reserved() {
        let mut handles = Handles::new(Arc::default());
        handles.descriptor_limit = 0;
        assert_eq!(handles.insert(open(5)), Err(Errno::MFILE));
    }

    #[test]
    fn shares_hold_so_many_files_together() {
        let budget = Arc::new(Budget::new(0, 0, 2));
        let mut one = Handles::new(budget.clone());
        let mut other = Handles::new(budget);
        let handle = one.insert(open(5)).unwrap();
        other.insert(open(5)).unwrap();
        assert_eq!(one.insert(open(6)), Err(Errno::MFILE));
        assert_eq!(one.remove(handle, 6), Err(Errno::BADF));
        assert_eq!(other.insert(open(6)), Err(Errno::MFILE));
        one.remove(handle, 5).unwrap();
        other.insert(open(6)).unwrap();
        assert_eq!(one.insert(open(6)), Err(Errno::MFILE));
        other.clear();
        one.insert(open(5)).unwrap();
        one.insert(open(6)).unwrap();
        assert_eq!(one.insert(open(7)), Err(Errno::MFILE));
    }

    #[test]
    fn a_table_gives_its_memory_back() {
        let mut handles = Handles::new(Arc::default());
        let opened: Vec<_> = (0..200)
            .map(|node| (handles.insert(open(node)).unwrap(), node))
            .collect();
        for (handle, node) in opened {
            handles.remove(handle, node).unwrap();
        }
        assert!(handles.open.capacity() < 16, "{}", handles.open.capacity());
    }
}
