//! Operations on names: files, folders and links are made, found, moved and removed.

use devices::virtio::fs::wire::{EntryOut, opcode};
use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::guest::Names;
use super::{Worlds, assert_same, kept};

impl Worlds {
    pub(super) fn create(&mut self) {
        let path = self.chance.path();
        let special = [FileType::Fifo, FileType::Socket];
        if self
            .host
            .kind(&path)
            .is_some_and(|kind| special.contains(&kind))
        {
            return;
        }
        let others = [0, libc::O_EXCL, libc::O_TRUNC, libc::O_APPEND, libc::O_SYNC];
        let access = self.chance.of(&[libc::O_RDWR, libc::O_WRONLY]);
        let flags = access | self.chance.of(&others);
        let permissions = self
            .chance
            .permissions(&[0o644, 0o600, 0o4755, 0o2777, 0o1666, 0o400]);
        let made = self.guest.retry(&[&path[..path.len() - 1]], |guest| {
            let (parent, name) = guest.parent(&path)?;
            guest.client.create(parent, name, flags, permissions)
        });
        let kept = kept(permissions, None);
        let file = self.host.open(&path, flags | libc::O_CREAT, kept);
        assert_eq!(
            made.map(drop),
            file.as_ref().map(drop).map_err(|error| *error)
        );
        let (Ok((entry, open)), Ok(file)) = (made, file) else {
            return;
        };
        self.guest.found(&path, &entry);
        assert_same(&entry.attr, &fs::fstat(&file).unwrap());
        self.keep(entry.nodeid, open.fh, file, flags);
    }

    pub(super) fn open_there(&mut self) {
        let path = self.chance.path();
        let flags = match self.host.kind(&path) {
            Some(FileType::Fifo | FileType::Socket) => return,
            Some(FileType::Directory) => libc::O_RDWR,
            _ => self
                .chance
                .of(&[libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR | libc::O_TRUNC]),
        };
        let opened = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.open(node, flags).map(|open| (node, open.fh))
        });
        let file = self.host.open(&path, flags, 0);
        assert_eq!(
            opened.map(drop),
            file.as_ref().map(drop).map_err(|error| *error)
        );
        if let (Ok((node, fh)), Ok(file)) = (opened, file) {
            self.keep(node, fh, file, flags);
        }
    }

    pub(super) fn mkdir(&mut self) {
        let path = self.chance.path();
        let mode = self.chance.of(&[0o755, 0o700, 0o1777]);
        let entry = self.guest.retry(&[&path[..path.len() - 1]], |guest| {
            let (parent, name) = guest.parent(&path)?;
            guest.client.mkdir(parent, name, mode)
        });
        assert_eq!(entry.map(drop), self.host.mkdir(&path, mode));
        self.note(&path, entry);
    }

    pub(super) fn mknod(&mut self) {
        let path = self.chance.path();
        let kind = self
            .chance
            .of(&[libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK]);
        let mode = kind | self.chance.of(&[0o644, 0o600]);
        let entry = self.guest.retry(&[&path[..path.len() - 1]], |guest| {
            let (parent, name) = guest.parent(&path)?;
            guest.client.mknod(parent, name, mode, 0)
        });
        assert_eq!(entry.map(drop), self.host.mknod(&path, mode));
        self.note(&path, entry);
    }

    pub(super) fn symlink(&mut self) {
        let path = self.chance.path();
        let target = self.chance.of(&["a", "../b", "/etc/passwd", ""]);
        let made = self.guest.retry(&[&path[..path.len() - 1]], |guest| {
            let (parent, name) = guest.parent(&path)?;
            guest.client.symlink(parent, name, target.as_bytes())
        });
        assert_eq!(made.map(drop), self.symlink_of_host(&path, target));
        self.note(&path, made);
    }

    /// An empty target is refused before anything is looked at, in a guest as on a host; only a
    /// guest's kernel has looked at the parents then.
    pub(super) fn symlink_of_host(&self, path: &[&str], target: &str) -> Result<(), Errno> {
        self.host.parent(path)?;
        self.host.symlink(path, target)
    }

    pub(super) fn link(&mut self) {
        let (from, to) = (self.chance.path(), self.chance.path());
        let linked = self.guest.retry(&[&from, &to[..to.len() - 1]], |guest| {
            let node = guest.node(&from)?;
            let (parent, name) = guest.parent(&to)?;
            let entry = guest.client.link(node, parent, name)?;
            assert_eq!(entry.nodeid, node, "hard links are one node");
            Ok(entry)
        });
        assert_eq!(linked.map(drop), self.host.link(&from, &to));
        self.note(&to, linked);
    }

    pub(super) fn note(&mut self, path: &Names, made: Result<EntryOut, Errno>) {
        if let Ok(entry) = made {
            self.guest.found(path, &entry);
            assert_same(&entry.attr, &self.host.stat(path).unwrap());
        }
    }

    pub(super) fn remove(&mut self, opcode: u32) {
        let path = self.chance.path();
        let removed = self.guest.retry(&[&path], |guest| {
            let (parent, name) = guest.parent(&path)?;
            match opcode {
                opcode::RMDIR => guest.client.rmdir(parent, name),
                _ => guest.client.unlink(parent, name),
            }
        });
        let flags = match opcode {
            opcode::RMDIR => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        assert_eq!(removed, self.host.remove(&path, flags));
        if removed.is_ok() {
            self.guest.drop_tree(&path);
        }
    }

    pub(super) fn rename(&mut self) {
        let (from, to) = (self.chance.path(), self.chance.path());
        let flags = self
            .chance
            .of(&[0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
        let renamed = self.guest.retry(&[&from, &to], |guest| {
            let old = guest.parent(&from)?;
            let new = guest.parent(&to)?;
            // As Linux looks both names up first.
            let same = guest
                .node(&from)
                .ok()
                .is_some_and(|node| guest.node(&to) == Ok(node));
            guest.client.rename(old, new, flags).map(|()| same)
        });
        assert_eq!(renamed.map(drop), self.host.rename(&from, &to, flags));
        // Of two names of one file both stay.
        if renamed == Ok(false) {
            let exchanged = flags == libc::RENAME_EXCHANGE;
            self.guest.moved(&from, &to, exchanged);
        }
    }
}
