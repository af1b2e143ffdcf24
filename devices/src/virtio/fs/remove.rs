//! Names that end or change: UNLINK, RMDIR, RENAME, RENAME2.
//!
//! The host is changed first, then the node table; nothing walks a path in between
//! ([`Server`]'s lock).

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, RenameFlags, Stat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::host;
use super::lock;
use super::name::Name;
use super::nodes::{At, Kind};
use super::reply::Failure;
use super::request::Request;
use super::reserve::BLOCK_BYTES;
use super::server::Server;
use super::wire::{Rename2In, RenameIn, opcode};

impl Server {
    /// UNLINK, RMDIR.
    pub(super) fn remove(&self, request: &Request<'_>) -> Result<(), Failure> {
        let name = request.name()?;
        let parent = request.header.nodeid;
        let flags = if request.header.opcode == opcode::RMDIR {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        let directory = self.tree.place(parent)?;
        let stat = host::stat_name(&directory, name.bytes())?;
        unlinkat(&directory, name.bytes(), flags)?;
        self.note_removed(At { parent, name }, &stat);
        Ok(())
    }

    pub(super) fn rename(&self, request: &Request<'_>) -> Result<(), Failure> {
        let (newdir, flags, names) = if request.header.opcode == opcode::RENAME {
            let RenameIn { newdir } = request.arguments()?;
            (newdir, 0, request.two_after::<RenameIn>()?)
        } else {
            let Rename2In { newdir, flags, .. } = request.arguments()?;
            (newdir, flags, request.two_after::<Rename2In>()?)
        };
        let flags = RenameFlags::from_bits_retain(flags);
        let allowed = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
        // A whiteout is a device node.
        if !allowed.contains(flags) || flags == allowed {
            return Err(Errno::INVAL.into());
        }
        let at = |parent, name| Name::new(name).map(|name| At { parent, name });
        let (from, to) = (at(request.header.nodeid, names.0)?, at(newdir, names.1)?);
        let old = self.tree.place(from.parent)?;
        let new = self.tree.place(to.parent)?;
        let moved = host::stat_name(&old, from.name.bytes())?;
        let there = host::stat_name(&new, to.name.bytes()).ok();
        if there.is_none() {
            // The directory may grow.
            self.reserve.take(&new, BLOCK_BYTES)?;
        }
        let (old, new) = (old.as_fd(), new.as_fd());
        renameat_with(old, from.name.bytes(), new, to.name.bytes(), flags)?;
        let exchanged = flags.contains(RenameFlags::EXCHANGE);
        self.note_renamed((from, &moved), (to, there.as_ref()), exchanged);
        Ok(())
    }

    fn note_renamed(&self, from: (At<'_>, &Stat), to: (At<'_>, Option<&Stat>), exchanged: bool) {
        let ((from, moved), (to, there)) = (from, to);
        let found = self.tree.found(moved);
        if let Some(there) = there {
            // Two names of one file: both stay, rename(2).
            if host::identity(there) == host::identity(moved) {
                return;
            }
            if exchanged {
                let other = (to, self.tree.found(there));
                lock(&self.tree.nodes).exchanged((from, found), other);
                return;
            }
            self.note_removed(to, there);
        }
        lock(&self.tree.nodes).renamed(from, to, found);
    }

    /// A name that ends is the end of the file when it was the last.
    fn note_removed(&self, at: At<'_>, was: &Stat) {
        let found = self.tree.found(was);
        if found.identity.kind == Kind::Directory || was.st_nlink <= 1 {
            lock(&self.tree.nodes).removed(at, found);
        }
    }
}
