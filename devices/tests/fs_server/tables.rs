//! The error of each call in its corner cases, as POSIX and Linux have it on a local file system.

use std::fs;
use std::os::unix::fs::symlink;

use devices::virtio::fs::wire::ROOT_ID;
use rustix::fs::{CWD, FileType, mknodat};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::changes::mount_writable;
use crate::client::Client;

/// A share with a file of each kind, and their nodes.
struct World {
    client: Client,
    file: u64,
    directory: u64,
    below: u64,
    empty: u64,
    link: u64,
    fifo: u64,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "content").unwrap();
        fs::write(path("other"), "other").unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("directory/below"), "").unwrap();
        fs::create_dir(path("empty")).unwrap();
        symlink("file", path("link")).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::hard_link(path("file"), path("hard")).unwrap();
        let client = mount_writable(folder.path());
        let node = |name: &str| client.node(name);
        Self {
            file: node("file"),
            directory: node("directory"),
            below: node("directory/below"),
            empty: node("empty"),
            link: node("link"),
            fifo: node("fifo"),
            client,
            folder,
        }
    }

    fn create(&self, parent: u64, name: &str, flags: i32) -> Result<(), Errno> {
        let flags = libc::O_RDWR | flags;
        let made = self.client.create(parent, name.as_bytes(), flags, 0o600);
        made.map(drop)
    }

    fn rename(&self, from: (u64, &str), to: (u64, &str), flags: u32) -> Result<(), Errno> {
        let bytes = |(parent, name): (u64, &str)| (parent, name.to_owned().into_bytes());
        let (from, to) = (bytes(from), bytes(to));
        self.client.rename((from.0, &from.1), (to.0, &to.1), flags)
    }

    fn link(&self, node: u64, parent: u64, name: &str) -> Result<(), Errno> {
        self.client.link(node, parent, name.as_bytes()).map(drop)
    }

    fn unlink(&self, parent: u64, name: &str) -> Result<(), Errno> {
        self.client.unlink(parent, name.as_bytes())
    }

    fn rmdir(&self, parent: u64, name: &str) -> Result<(), Errno> {
        self.client.rmdir(parent, name.as_bytes())
    }

    fn mkdir(&self, parent: u64, name: &str) -> Result<(), Errno> {
        let made = self.client.mkdir(parent, name.as_bytes(), 0o755);
        made.map(drop)
    }

    fn symlink(&self, parent: u64, name: &str, target: &str) -> Result<(), Errno> {
        let made = self
            .client
            .symlink(parent, name.as_bytes(), target.as_bytes());
        made.map(drop)
    }

    fn open(&self, node: u64, flags: i32) -> Result<(), Errno> {
        self.client.open(node, flags).map(drop)
    }

    fn truncate(&self, node: u64, size: u64) -> Result<(), Errno> {
        self.client.truncate(node, None, size).map(drop)
    }
}

/// A call, and how it ends in a world of its own.
type Case = (
    &'static str,
    Result<(), Errno>,
    fn(&World) -> Result<(), Errno>,
);

#[track_caller]
fn assert_all(cases: &[Case]) {
    for (what, expected, call) in cases {
        assert_eq!(call(&World::new()), *expected, "{what}");
    }
}

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;

#[test]
fn open() {
    assert_all(&[
        ("new", Ok(()), |w| w.create(ROOT_ID, "new", 0)),
        ("new, exclusive", Ok(()), |w| {
            w.create(ROOT_ID, "new", libc::O_EXCL)
        }),
        ("there", Ok(()), |w| w.create(ROOT_ID, "file", 0)),
        ("there, exclusive", Err(Errno::EXIST), |w| {
            w.create(ROOT_ID, "file", libc::O_EXCL)
        }),
        ("a directory", Err(Errno::ISDIR), |w| {
            w.create(ROOT_ID, "empty", 0)
        }),
        ("a link", Err(Errno::LOOP), |w| w.create(ROOT_ID, "link", 0)),
        ("a link to nothing", Err(Errno::LOOP), |w| {
            w.create(ROOT_ID, "dangling", 0)
        }),
        ("a link, exclusive", Err(Errno::EXIST), |w| {
            w.create(ROOT_ID, "dangling", libc::O_EXCL)
        }),
        ("below a file", Err(Errno::NOTDIR), |w| {
            w.create(w.file, "new", 0)
        }),
        ("below a link", Err(Errno::NOTDIR), |w| {
            w.create(w.link, "new", 0)
        }),
        ("neither reading nor writing", Err(Errno::INVAL), |w| {
            w.create(ROOT_ID, "new", libc::O_ACCMODE)
        }),
        ("to write", Ok(()), |w| w.open(w.file, libc::O_WRONLY)),
        ("a directory to write", Err(Errno::ISDIR), |w| {
            w.open(w.empty, libc::O_RDWR)
        }),
        ("a link to write", Err(Errno::LOOP), |w| {
            w.open(w.link, libc::O_RDWR)
        }),
        ("both bits", Err(Errno::INVAL), |w| {
            w.open(w.file, libc::O_ACCMODE)
        }),
        ("no such node", Err(Errno::STALE), |w| {
            w.open(u64::MAX, libc::O_RDWR)
        }),
    ]);
}

#[test]
fn mkdir_rmdir_and_unlink() {
    assert_all(&[
        ("new", Ok(()), |w| w.mkdir(w.empty, "new")),
        ("there", Err(Errno::EXIST), |w| w.mkdir(ROOT_ID, "empty")),
        ("a file there", Err(Errno::EXIST), |w| {
            w.mkdir(ROOT_ID, "file")
        }),
        ("a link to nothing", Err(Errno::EXIST), |w| {
            w.mkdir(ROOT_ID, "dangling")
        }),
        ("below a file", Err(Errno::NOTDIR), |w| {
            w.mkdir(w.file, "new")
        }),
        ("rmdir", Ok(()), |w| w.rmdir(ROOT_ID, "empty")),
        ("rmdir of a full one", Err(Errno::NOTEMPTY), |w| {
            w.rmdir(ROOT_ID, "directory")
        }),
        ("rmdir of a file", Err(Errno::NOTDIR), |w| {
            w.rmdir(ROOT_ID, "file")
        }),
        ("rmdir of a link", Err(Errno::NOTDIR), |w| {
            w.rmdir(ROOT_ID, "link")
        }),
        ("rmdir of nothing", Err(Errno::NOENT), |w| {
            w.rmdir(ROOT_ID, "none")
        }),
        ("rmdir twice", Err(Errno::NOENT), |w| {
            w.rmdir(ROOT_ID, "empty")?;
            w.rmdir(ROOT_ID, "empty")
        }),
        ("in one that is gone", Err(Errno::STALE), |w| {
            w.rmdir(ROOT_ID, "empty")?;
            w.mkdir(w.empty, "new")
        }),
        ("unlink", Ok(()), |w| w.unlink(w.directory, "below")),
        ("unlink of a link", Ok(()), |w| w.unlink(ROOT_ID, "link")),
        ("unlink of a fifo", Ok(()), |w| w.unlink(ROOT_ID, "fifo")),
        ("unlink of a directory", Err(Errno::ISDIR), |w| {
            w.unlink(ROOT_ID, "empty")
        }),
        ("unlink of nothing", Err(Errno::NOENT), |w| {
            w.unlink(ROOT_ID, "none")
        }),
        ("unlink below a file", Err(Errno::NOTDIR), |w| {
            w.unlink(w.file, "none")
        }),
    ]);
}

#[test]
fn link_and_symlink() {
    assert_all(&[
        ("a file", Ok(()), |w| w.link(w.file, w.empty, "new")),
        ("a link itself", Ok(()), |w| {
            w.link(w.link, ROOT_ID, "new")?;
            w.client.readlink(w.client.node("new")).map(drop)
        }),
        ("a fifo", Ok(()), |w| w.link(w.fifo, ROOT_ID, "new")),
        ("a directory", Err(Errno::PERM), |w| {
            w.link(w.empty, ROOT_ID, "new")
        }),
        ("there", Err(Errno::EXIST), |w| {
            w.link(w.file, ROOT_ID, "other")
        }),
        ("to itself", Err(Errno::EXIST), |w| {
            w.link(w.file, ROOT_ID, "file")
        }),
        ("no such node", Err(Errno::STALE), |w| {
            w.link(77, ROOT_ID, "new")
        }),
        ("below a file", Err(Errno::NOTDIR), |w| {
            w.link(w.file, w.below, "new")
        }),
        ("a file without a name", Err(Errno::NOENT), |w| {
            let fh = w.client.open(w.below, libc::O_RDWR)?.fh;
            w.unlink(w.directory, "below")?;
            assert!(fh > 0);
            w.link(w.below, ROOT_ID, "new")
        }),
        ("symlink", Ok(()), |w| {
            w.symlink(ROOT_ID, "new", "/etc/passwd")
        }),
        ("symlink there", Err(Errno::EXIST), |w| {
            w.symlink(ROOT_ID, "link", "x")
        }),
        ("symlink to nothing", Err(Errno::NOENT), |w| {
            w.symlink(ROOT_ID, "new", "")
        }),
        ("symlink of 4095", Ok(()), |w| {
            w.symlink(ROOT_ID, "new", &"a/".repeat(2048)[..4095])
        }),
        ("symlink of 4096", Err(Errno::NAMETOOLONG), |w| {
            w.symlink(ROOT_ID, "new", &"a/".repeat(2048))
        }),
        ("symlink below a file", Err(Errno::NOTDIR), |w| {
            w.symlink(w.file, "new", "x")
        }),
    ]);
}

#[test]
fn rename() {
    assert_all(&[
        ("a file", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (w.empty, "new"), 0)
        }),
        ("over a file", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "other"), 0)
        }),
        ("over a link", Ok(()), |w| {
            w.rename((ROOT_ID, "other"), (ROOT_ID, "link"), 0)
        }),
        ("to itself", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "file"), 0)
        }),
        ("to another name of it", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "hard"), 0)?;
            w.unlink(ROOT_ID, "file")?;
            w.unlink(ROOT_ID, "hard")
        }),
        ("over a directory", Err(Errno::ISDIR), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "empty"), 0)
        }),
        ("a directory over a file", Err(Errno::NOTDIR), |w| {
            w.rename((ROOT_ID, "empty"), (ROOT_ID, "file"), 0)
        }),
        ("a directory over an empty one", Ok(()), |w| {
            w.rename((ROOT_ID, "directory"), (ROOT_ID, "empty"), 0)
        }),
        ("a directory over a full one", Err(Errno::NOTEMPTY), |w| {
            w.rename((ROOT_ID, "empty"), (ROOT_ID, "directory"), 0)
        }),
        ("nothing", Err(Errno::NOENT), |w| {
            w.rename((ROOT_ID, "none"), (ROOT_ID, "new"), 0)
        }),
        ("to below a file", Err(Errno::NOTDIR), |w| {
            w.rename((ROOT_ID, "other"), (w.file, "new"), 0)
        }),
        ("keeping", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "new"), NOREPLACE)
        }),
        ("keeping what is there", Err(Errno::EXIST), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "other"), NOREPLACE)
        }),
        ("exchange", Ok(()), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "empty"), EXCHANGE)
        }),
        ("exchange with nothing", Err(Errno::NOENT), |w| {
            w.rename((ROOT_ID, "file"), (ROOT_ID, "new"), EXCHANGE)
        }),
        ("what was replaced is gone", Err(Errno::STALE), |w| {
            w.rename((ROOT_ID, "other"), (w.directory, "below"), 0)?;
            w.truncate(w.below, 0)
        }),
        (
            "what was replaced but has a name is found by it",
            Ok(()),
            |w| {
                w.rename((ROOT_ID, "other"), (ROOT_ID, "file"), 0)?;
                assert_eq!(w.client.node("hard"), w.file);
                w.truncate(w.file, 0)
            },
        ),
    ]);
}

#[test]
fn truncate_chmod_and_chown() {
    assert_all(&[
        ("longer", Ok(()), |w| w.truncate(w.file, 100_000)),
        ("a directory", Err(Errno::ISDIR), |w| w.truncate(w.empty, 0)),
        ("a link", Err(Errno::INVAL), |w| w.truncate(w.link, 0)),
        ("too long", Err(Errno::FBIG), |w| {
            w.truncate(w.file, 1 << 63)
        }),
        ("no such node", Err(Errno::STALE), |w| {
            w.truncate(1 << 40, 0)
        }),
        ("chmod", Ok(()), |w| w.client.chmod(w.file, 0).map(drop)),
        ("chmod of a link", Err(Errno::OPNOTSUPP), |w| {
            w.client.chmod(w.link, 0).map(drop)
        }),
        ("chown to whom it is", Ok(()), |w| {
            let (uid, gid) = crate::changes::own();
            w.client.chown(w.link, uid, gid).map(drop)
        }),
        ("attributes of a link", Err(Errno::PERM), |w| {
            w.client.setxattr(w.link, b"user.a", b"", 0)
        }),
        ("attributes of a fifo", Err(Errno::PERM), |w| {
            w.client.setxattr(w.fifo, b"user.a", b"", 0)
        }),
    ]);
}

#[test]
fn a_link_is_never_changed_through() {
    let w = World::new();
    let _ = w.client.chmod(w.link, 0);
    let _ = w.truncate(w.link, 0);
    w.client
        .chown(w.link, crate::changes::own().0, crate::changes::own().1)
        .unwrap();
    let file = fs::metadata(w.folder.path().join("file")).unwrap();
    assert_eq!(file.len(), 7);
    assert!(!file.permissions().readonly());
}
