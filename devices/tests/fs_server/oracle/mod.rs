//! The oracle: whatever a guest does to a share, a plain folder of the host would have become the
//! same by the same system calls.
//!
//! Operations are drawn by chance from a small world, so that they meet: a few names, three levels
//! deep, and files that stay open while they are renamed, linked and removed. Each must end with
//! the same error number, and each few hundred of them both folders must be the same.

mod guest;
mod host;
mod tree;

use std::os::fd::OwnedFd;
use std::path::Path;

use devices::virtio::fs::wire::{Attr, Set, opcode};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, SeekFrom, Stat, XattrFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::changes::set;
use guest::{Guest, Names};
use host::{Host, path_of};

const NAMES: [&str; 4] = ["a", "b", "c", "a name of more than twenty-two bytes"];

/// Operations of one test. There are four.
const OPERATIONS: usize = 26_000;

/// Operations between two looks at the whole.
const LOOK_AFTER: usize = 500;

/// Files held open at once.
const OPEN_MAX: usize = 8;

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn path(&mut self) -> Names {
        (0..=self.of(&[0, 0, 1, 1, 2]))
            .map(|_| self.of(&NAMES))
            .collect()
    }
}

/// A file that is open on both sides.
struct Open {
    node: u64,
    fh: u64,
    file: OwnedFd,
    flags: i32,
}

/// A guest with a share, and the folder that it is compared with.
struct Worlds {
    chance: Chance,
    guest: Guest,
    host: Host,
    open: Vec<Open>,
    share: TempDir,
    folder: TempDir,
}

/// A folder in memory, where there is one: it is quick, and keeps attributes.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The permissions that a guest's end up with: nothing runs with another's rights.
fn kept(mode: u32, kind: Option<FileType>) -> u32 {
    match kind {
        Some(FileType::Directory) => mode & !0o4000,
        _ => mode & !0o6000,
    }
}

#[track_caller]
fn assert_same(attr: &Attr, stat: &Stat) {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let size = if directory {
        attr.size
    } else {
        stat.st_size.cast_unsigned()
    };
    let of_guest = (
        attr.mode,
        u64::from(attr.nlink),
        attr.uid,
        attr.gid,
        attr.size,
    );
    let of_host = (stat.st_mode, stat.st_nlink, stat.st_uid, stat.st_gid, size);
    assert_eq!(of_guest, of_host);
}

impl Worlds {
    fn new(seed: u64) -> Self {
        let (share, folder) = (folder(), folder());
        Self {
            chance: Chance(seed),
            guest: Guest::new(share.path()),
            host: Host::new(folder.path()),
            open: Vec::new(),
            share,
            folder,
        }
    }

    fn step(&mut self) {
        match self.chance.below(34) {
            0..4 => self.create(),
            4..6 => self.open_there(),
            6..9 => self.mkdir(),
            9 => self.mknod(),
            10 => self.symlink(),
            11..13 => self.link(),
            13..15 => self.remove(opcode::UNLINK),
            15 => self.remove(opcode::RMDIR),
            16..20 => self.rename(),
            20..23 => self.write(),
            23 => self.read(),
            24 => self.truncate(),
            25 => self.chmod(),
            26 => self.times(),
            27 => self.attributes(),
            28 => self.fallocate(),
            29 => self.seek(),
            30 => self.copy(),
            31 => self.stat(),
            32 => self.close(),
            _ => self.forget(),
        }
    }

    fn create(&mut self) {
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
            .of(&[0o644, 0o600, 0o4755, 0o2777, 0o1666, 0o400]);
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

    fn open_there(&mut self) {
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

    fn keep(&mut self, node: u64, fh: u64, file: OwnedFd, flags: i32) {
        self.guest.hold(node);
        self.open.push(Open {
            node,
            fh,
            file,
            flags,
        });
        if self.open.len() > OPEN_MAX {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let nth = self.chance.below(self.open.len() as u64) as usize;
        let Open { node, fh, .. } = self.open.swap_remove(nth);
        self.guest.client.release(node, fh).unwrap();
        self.guest.let_go(node);
    }

    fn mkdir(&mut self) {
        let path = self.chance.path();
        let mode = self.chance.of(&[0o755, 0o700, 0o1777]);
        let entry = self.guest.retry(&[&path[..path.len() - 1]], |guest| {
            let (parent, name) = guest.parent(&path)?;
            guest.client.mkdir(parent, name, mode)
        });
        assert_eq!(entry.map(drop), self.host.mkdir(&path, mode));
        self.note(&path, entry);
    }

    fn mknod(&mut self) {
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

    fn symlink(&mut self) {
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
    fn symlink_of_host(&self, path: &[&str], target: &str) -> Result<(), Errno> {
        self.host.parent(path)?;
        self.host.symlink(path, target)
    }

    fn link(&mut self) {
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

    fn note(&mut self, path: &Names, made: Result<devices::virtio::fs::wire::EntryOut, Errno>) {
        if let Ok(entry) = made {
            self.guest.found(path, &entry);
            assert_same(&entry.attr, &self.host.stat(path).unwrap());
        }
    }

    fn remove(&mut self, opcode: u32) {
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

    fn rename(&mut self) {
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

    /// One of the open files.
    fn some_open(&mut self) -> Option<usize> {
        let many = self.open.len() as u64;
        (many > 0).then(|| self.chance.below(many) as usize)
    }

    fn write(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let (offset, size) = (
            self.chance.below(20_000),
            self.chance.of(&[1, 100, 4096, 9000]),
        );
        let data = vec![self.chance.next() as u8; size];
        let Open {
            node,
            fh,
            file,
            flags,
        } = &self.open[nth];
        let client = &self.guest.client;
        let written = client.write(*node, *fh, offset, &data, *flags);
        // Linux appends also with pwrite(2).
        assert_eq!(written, rustix::io::pwrite(file, &data, offset));
    }

    fn read(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let offset = self.chance.below(25_000);
        let read = self.guest.client.read_open(*node, *fh, offset, 8192);
        let mut buffer = [0; 8192];
        let expected = rustix::io::pread(file, &mut buffer, offset);
        assert_eq!(read, expected.map(|bytes| buffer[..bytes].to_vec()));
    }

    fn truncate(&mut self) {
        let size = self.chance.of(&[0, 1, 5000, 30_000]);
        if let Some(nth) = self.some_open().filter(|_| size != 1) {
            let Open { node, fh, file, .. } = &self.open[nth];
            // ftruncate(2) of what is not open for writing is the guest kernel's to refuse.
            if fs::ftruncate(file, size).is_ok() {
                let attr = self.guest.client.truncate(*node, Some(*fh), size).unwrap();
                assert_same(&attr, &fs::fstat(file).unwrap());
            }
            return;
        }
        let path = self.chance.path();
        if self.host.kind(&path) != Some(FileType::RegularFile) {
            return;
        }
        let cut = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.truncate(node, None, size)
        });
        let file = self.host.open(&path, libc::O_WRONLY, 0).unwrap();
        fs::ftruncate(&file, size).unwrap();
        assert_same(&cut.unwrap(), &fs::fstat(&file).unwrap());
    }

    fn chmod(&mut self) {
        let path = self.chance.path();
        let kind = self.host.kind(&path);
        if kind == Some(FileType::Symlink) {
            return;
        }
        let mode = self.chance.of(&[0o644, 0o755, 0o4711, 0o2755, 0o1777, 0]);
        let changed = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.chmod(node, mode)
        });
        let mode = Mode::from_raw_mode(kept(mode, kind));
        let expected = self
            .host
            .reach(&path)
            .and_then(|file| fs::chmodat(CWD, path_of(&file), mode, AtFlags::empty()));
        assert_eq!(changed.map(drop), expected);
    }

    fn times(&mut self) {
        let path = self.chance.path();
        let seconds = self.chance.below(1 << 32);
        let mut setattr = set(Set::MTIME);
        (setattr.mtime, setattr.mtimensec) = (seconds, 5);
        let attr = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.setattr(node, &setattr)
        });
        assert_eq!(attr.map(drop), self.host.stat(&path).map(drop));
        if let Ok(attr) = attr {
            assert_eq!((attr.mtime, attr.mtimensec), (seconds, 5));
        }
    }

    fn attributes(&mut self) {
        let path = self.chance.path();
        let name = self.chance.of(&["user.a", "user.b"]);
        let value = vec![7; self.chance.below(60) as usize];
        let flags = self
            .chance
            .of(&[0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
        let remove = self.chance.below(3) == 0;
        let changed = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            let client = &guest.client;
            if remove {
                client.removexattr(node, name.as_bytes())
            } else {
                client.setxattr(node, name.as_bytes(), &value, flags.bits())
            }
        });
        let expected = self.host.reach(&path).and_then(|file| {
            let path = path_of(&file);
            if remove {
                fs::removexattr(path, name)
            } else {
                fs::setxattr(path, name, &value, flags)
            }
        });
        assert_eq!(changed, expected);
    }

    fn fallocate(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let mode = self
            .chance
            .of(&[0, keep, keep | libc::FALLOC_FL_PUNCH_HOLE]);
        let (offset, length) = (self.chance.below(20_000), self.chance.of(&[0, 100, 10_000]));
        let done = self
            .guest
            .client
            .fallocate(*node, *fh, mode, offset, length);
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        assert_eq!(done, fs::fallocate(file, mode, offset, length));
    }

    fn seek(&mut self) {
        let Some(nth) = self.some_open() else { return };
        let Open { node, fh, file, .. } = &self.open[nth];
        let offset = self.chance.below(30_000);
        let whence = self.chance.of(&[libc::SEEK_DATA, libc::SEEK_HOLE]);
        let found = self.guest.client.lseek(*node, *fh, offset, whence);
        let from = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            _ => SeekFrom::Hole(offset),
        };
        assert_eq!(found, fs::seek(file, from));
    }

    fn copy(&mut self) {
        let (Some(from), Some(to)) = (self.some_open(), self.some_open()) else {
            return;
        };
        let (from, to) = (&self.open[from], &self.open[to]);
        // The guest's kernel refuses to copy to a file that is open with O_APPEND.
        if to.flags & libc::O_APPEND != 0 {
            return;
        }
        let (mut off_in, mut off_out) = (self.chance.below(9000), self.chance.below(20_000));
        let source = (from.node, from.fh, off_in);
        let target = (to.node, to.fh, off_out);
        let copied = self.guest.client.copy(source, target, 6000);
        let (off_in, off_out) = (Some(&mut off_in), Some(&mut off_out));
        let expected = fs::copy_file_range(&from.file, off_in, &to.file, off_out, 6000);
        assert_eq!(copied, expected);
    }

    fn stat(&mut self) {
        if let Some(nth) = self.some_open() {
            let Open { node, file, .. } = &self.open[nth];
            // Linux tells no handle for fstat(2), also of a file that has no name any more.
            let attr = self.guest.client.getattr(*node).unwrap();
            assert_same(&attr, &fs::fstat(file).unwrap());
        }
        let path = self.chance.path();
        let attr = self.guest.retry(&[&path], |guest| {
            let node = guest.node(&path)?;
            guest.client.getattr(node)
        });
        let stat = self.host.stat(&path);
        assert_eq!(attr.map(drop), stat.map(drop));
        if let (Ok(attr), Ok(stat)) = (attr, stat) {
            assert_same(&attr, &stat);
        }
    }

    /// As when the guest is short of memory.
    fn forget(&mut self) {
        let path = self.chance.path();
        self.guest.drop_tree(&path);
    }

    fn look(&self) {
        assert_eq!(
            tree::tree(self.share.path()),
            tree::tree(self.folder.path())
        );
    }
}

/// Carries a seed's operations out, and says which they were where they differ.
fn assert_worlds_agree(seed: u64) {
    let mut worlds = Worlds::new(seed);
    for nth in 0..OPERATIONS {
        // Shown only where the test fails.
        if nth % LOOK_AFTER == 0 {
            println!("seed {seed:#x}, from operation {nth} on");
            worlds.look();
        }
        worlds.step();
    }
    worlds.look();
    let again = worlds.guest.looked_again;
    // Only for a file whose name seen last is gone while another is left.
    assert!(again < OPERATIONS / 50, "looked again {again} times");
}

#[test]
fn first_of_four_worlds_agrees() {
    assert_worlds_agree(1);
}

#[test]
fn second_of_four_worlds_agrees() {
    assert_worlds_agree(0xfeed_beef);
}

#[test]
fn third_of_four_worlds_agrees() {
    assert_worlds_agree(0x2026_1121);
}

#[test]
fn fourth_of_four_worlds_agrees() {
    assert_worlds_agree(u64::MAX / 3);
}
