//! Names and attributes: LOOKUP, FORGET, GETATTR, READLINK, STATFS.

use std::time::Duration;

use rustix::fs::{Stat, fstat, fstatvfs};
use rustix::io::Errno;
use zerocopy::FromZeros;

use super::host;
use super::lock;
use super::name::Name;
use super::nodes::Found;
use super::reply::{Failure, Sink};
use super::request::Request;
use super::reserve;
use super::server::Server;
use super::tree::TARGET_BYTES_MAX;
use super::wire::{
    Attr, AttrOut, BatchForgetIn, EntryOut, ForgetIn, ForgetOne, GETATTR_FH, GetattrIn, StatfsOut,
};

impl Server {
    pub(super) fn lookup(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        // Before a lookup is counted that the guest would not hear of.
        reply.require(size_of::<EntryOut>())?;
        let name = request.name()?;
        let parent = request.header.nodeid;
        let found = self.stat_in(parent, name);
        let entry = match found {
            Ok(stat) => self.enter(parent, name, &stat)?,
            Err(Errno::NOENT) => self.absent(parent)?,
            Err(error) => return Err(error.into()),
        };
        reply.put_object(&entry)
    }

    /// What `name` in `parent` is. A name that the filter hides costs no system call.
    fn stat_in(&self, parent: u64, name: Name<'_>) -> Result<Stat, Errno> {
        if !self.content.shows(parent, name) {
            return Err(Errno::NOENT);
        }
        let directory = self.tree.place(parent)?;
        host::stat_name(&directory, name.bytes())
    }

    /// Gives the guest one more lookup on the node of a name that exists.
    pub(super) fn enter(
        &self,
        parent: u64,
        name: Name<'_>,
        stat: &Stat,
    ) -> Result<EntryOut, Errno> {
        let Found { identity, linked } = self.tree.found(stat);
        let node = lock(&self.tree.nodes).enter(parent, name, identity, linked);
        let node = node.inspect_err(|error| self.count_refused(*error))?;
        self.tell(node, stat);
        let (entry_valid, entry_valid_nsec) = split(self.content.name_valid(parent));
        let (attr_valid, attr_valid_nsec) = split(self.content.attributes_valid(node));
        Ok(EntryOut {
            nodeid: node,
            // The number tells the generations apart by itself.
            generation: 0,
            entry_valid,
            attr_valid,
            entry_valid_nsec,
            attr_valid_nsec,
            attr: self.attributes(stat),
        })
    }

    /// What the guest is told of a file.
    pub(super) fn attributes(&self, stat: &Stat) -> Attr {
        Attr {
            flags: self.mapped_flag(stat),
            ..host::attributes(stat, self.tree.root_dev(), self.content.owners())
        }
    }

    /// Counts what a limit of the budget refuses.
    pub(super) fn count_refused(&self, error: Errno) {
        match error {
            Errno::NFILE => self.counters.count_node_refused(),
            Errno::MFILE => self.counters.count_handle_refused(),
            _ => {}
        }
    }

    /// Notes what the guest is told of a file that may change.
    pub(super) fn tell(&self, node: u64, stat: &Stat) {
        if !self.content.immutable() {
            lock(&self.freshness).tell(node, stat);
        }
    }

    /// An entry that says that there is no such name, where the guest may remember that.
    fn absent(&self, parent: u64) -> Result<EntryOut, Errno> {
        let valid = self.content.absence_valid(parent);
        if valid.is_zero() {
            return Err(Errno::NOENT);
        }
        let (entry_valid, entry_valid_nsec) = split(valid);
        Ok(EntryOut {
            entry_valid,
            entry_valid_nsec,
            ..EntryOut::new_zeroed()
        })
    }

    pub(super) fn forget(&self, request: &Request<'_>) -> Result<(), Failure> {
        let ForgetIn { nlookup } = request.arguments()?;
        lock(&self.tree.nodes).forget(request.header.nodeid, nlookup);
        Ok(())
    }

    pub(super) fn batch_forget(&self, request: &Request<'_>) -> Result<(), Failure> {
        let BatchForgetIn { count, .. } = request.arguments()?;
        let list = request.list::<BatchForgetIn, ForgetOne>(count)?;
        let mut nodes = lock(&self.tree.nodes);
        for ForgetOne { nodeid, nlookup } in list {
            nodes.forget(nodeid, nlookup);
        }
        Ok(())
    }

    pub(super) fn getattr(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let arguments: GetattrIn = request.arguments()?;
        let node = request.header.nodeid;
        // Linux sends handle 0 for files of an immutable share, which are never opened.
        let by_handle = arguments.getattr_flags & GETATTR_FH != 0;
        let stat = if by_handle && !self.content.immutable() {
            let open = lock(&self.handles).get(arguments.fh, node)?;
            fstat(&open.fd)?
        } else {
            self.stat(node)?
        };
        self.put_attributes(node, &stat, reply)
    }

    /// What the file of a node is now. In a writable share one that is open may have no name left.
    fn stat(&self, node: u64) -> Result<Stat, Errno> {
        match self.tree.stat(node) {
            Err(Errno::STALE) if self.content.writable() => {
                let open = lock(&self.handles).of_node(node);
                fstat(&open.ok_or(Errno::STALE)?.fd)
            }
            found => found,
        }
    }

    /// The reply to GETATTR and SETATTR.
    pub(super) fn put_attributes(
        &self,
        node: u64,
        stat: &Stat,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        self.tell(node, stat);
        let (attr_valid, attr_valid_nsec) = split(self.content.attributes_valid(node));
        let mut attr = self.attributes(stat);
        attr.mode |= self.content.granted(node);
        reply.put_object(&AttrOut {
            attr_valid,
            attr_valid_nsec,
            dummy: 0,
            attr,
        })
    }

    pub(super) fn readlink(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let mut buffer = [0; TARGET_BYTES_MAX];
        let target = self.tree.target(request.header.nodeid, &mut buffer)?;
        reply.require(target.len())?;
        Ok(reply.put(target)?)
    }

    /// The file system that the share's root is on, as `df` shows it. What the guest must leave free
    /// is to it what a disk keeps for root.
    pub(super) fn statfs(&self, reply: &mut dyn Sink) -> Result<(), Failure> {
        let host = fstatvfs(self.tree.root())?;
        let narrow = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let available = if self.content.writable() {
            reserve::free_blocks(&host)
        } else {
            host.f_bavail
        };
        reply.put_object(&StatfsOut {
            blocks: host.f_blocks,
            bfree: host.f_bfree,
            bavail: available,
            files: host.f_files,
            ffree: host.f_ffree,
            bsize: narrow(host.f_bsize),
            namelen: narrow(host.f_namemax),
            frsize: narrow(host.f_frsize),
            padding: 0,
            spare: [0; 6],
        })
    }
}

/// Seconds and nanoseconds as the protocol has them.
fn split(time: Duration) -> (u64, u32) {
    (time.as_secs(), time.subsec_nanos())
}
