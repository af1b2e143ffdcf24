//! The same operations, by the system calls that a program makes on a local file system.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A folder of this host.
pub struct Host {
    root: OwnedFd,
}

/// `/proc/self/fd`'s path of a file, for calls that take no descriptor.
pub fn path_of(file: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

impl Host {
    /// Opens a folder.
    pub fn new(root: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = fs::open(root, flags, Mode::empty()).unwrap();
        Self { root }
    }

    /// The folder that a path's last name is in. A link on the way is no folder.
    pub fn parent<'a>(&self, path: &[&'a str]) -> Result<(OwnedFd, &'a str), Errno> {
        let (name, parents) = path.split_last().unwrap();
        let parents = match parents.join("/") {
            path if path.is_empty() => ".".into(),
            path => path,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::NO_SYMLINKS;
        let folder = fs::openat2(&self.root, parents, flags, Mode::empty(), resolve);
        match folder {
            Err(Errno::LOOP) => Err(Errno::NOTDIR),
            folder => Ok((folder?, name)),
        }
    }

    /// lstat(2).
    pub fn stat(&self, path: &[&str]) -> Result<Stat, Errno> {
        let (folder, name) = self.parent(path)?;
        fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What a path is.
    pub fn kind(&self, path: &[&str]) -> Option<FileType> {
        let stat = self.stat(path).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    /// open(2).
    pub fn open(&self, path: &[&str], flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::from_bits_retain(flags.cast_unsigned()) | OFlags::NOFOLLOW;
        fs::openat(&folder, name, flags, Mode::from_raw_mode(mode))
    }

    /// A descriptor for calls on the file itself, also on a link.
    pub fn reach(&self, path: &[&str]) -> Result<OwnedFd, Errno> {
        let (folder, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        fs::openat(&folder, name, flags, Mode::empty())
    }

    /// mkdir(2).
    pub fn mkdir(&self, path: &[&str], mode: u32) -> Result<(), Errno> {
        let (folder, name) = self.parent(path)?;
        fs::mkdirat(&folder, name, Mode::from_raw_mode(mode))
    }

    /// mknod(2).
    pub fn mknod(&self, path: &[&str], mode: u32) -> Result<(), Errno> {
        let (folder, name) = self.parent(path)?;
        let (kind, mode) = (FileType::from_raw_mode(mode), Mode::from_raw_mode(mode));
        fs::mknodat(&folder, name, kind, mode, 0)
    }

    /// symlink(2).
    pub fn symlink(&self, path: &[&str], target: &str) -> Result<(), Errno> {
        let (folder, name) = self.parent(path)?;
        fs::symlinkat(target, &folder, name)
    }

    /// unlink(2), rmdir(2).
    pub fn remove(&self, path: &[&str], flags: AtFlags) -> Result<(), Errno> {
        let (folder, name) = self.parent(path)?;
        fs::unlinkat(&folder, name, flags)
    }

    /// link(2).
    pub fn link(&self, from: &[&str], to: &[&str]) -> Result<(), Errno> {
        let (old, name) = self.parent(from)?;
        fs::statat(&old, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (new, new_name) = self.parent(to)?;
        fs::linkat(&old, name, &new, new_name, AtFlags::empty())
    }

    /// renameat2(2).
    pub fn rename(&self, from: &[&str], to: &[&str], flags: u32) -> Result<(), Errno> {
        let (old, name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        let flags = RenameFlags::from_bits_retain(flags);
        fs::renameat_with(&old, name, &new, new_name, flags)
    }
}
