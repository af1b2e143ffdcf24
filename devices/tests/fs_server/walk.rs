//! A tree seen through the server is the tree seen by the host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use devices::virtio::fs::Content;
use devices::virtio::fs::wire::{Attr, ROOT_ID, opcode};
use tempfile::TempDir;

use crate::client::{Client, changing, closure, immutable};

/// Everything that can be told of a file by reading.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    stat: [u64; 16],
    /// Content of a file, target of a link.
    bytes: Vec<u8>,
}

type Tree = BTreeMap<Vec<u8>, Seen>;

fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("one/two/three/four")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("one/empty-file"), "").unwrap();
    fs::write(root.join("one/page"), vec![7; 4096]).unwrap();
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(root.join("one/two/large"), large).unwrap();
    fs::hard_link(root.join("one/page"), root.join("one/two/three/link")).unwrap();
    symlink("../nowhere", root.join("one/dangling")).unwrap();
    symlink("/etc/passwd", root.join("one/two/absolute")).unwrap();
    symlink("t".repeat(4095), root.join("one/long-target")).unwrap();
    let odd: [&[u8]; 4] = [b"\xff\xfe", b"new\nline", b"\x1b[31m", &[b'x'; 255]];
    for name in odd {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(root.join("one/two/three").join(name), name.as_bytes()).unwrap();
    }
    for n in 0..500 {
        fs::write(
            root.join(format!("one/two/three/four/file-{n}")),
            n.to_string(),
        )
        .unwrap();
    }
    fs::set_permissions(root.join("one/page"), fs::Permissions::from_mode(0o4751)).unwrap();
    folder
}

fn by_host(path: &Path, name: &[u8], tree: &mut Tree) {
    let stat = fs::symlink_metadata(path).unwrap();
    let bytes = match stat.file_type() {
        kind if kind.is_symlink() => fs::read_link(path)
            .unwrap()
            .into_os_string()
            .as_bytes()
            .to_vec(),
        kind if kind.is_file() => fs::read(path).unwrap(),
        _ => Vec::new(),
    };
    let signed = |time: i64| time.cast_unsigned();
    let seen = Seen {
        stat: [
            stat.ino(),
            stat.size(),
            stat.blocks(),
            signed(stat.mtime()),
            signed(stat.mtime_nsec()),
            signed(stat.ctime()),
            signed(stat.ctime_nsec()),
            stat.mode().into(),
            stat.nlink(),
            stat.uid().into(),
            stat.gid().into(),
            stat.rdev(),
            stat.blksize(),
            0,
            0,
            0,
        ],
        bytes,
    };
    tree.insert(name.to_vec(), seen);
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().file_name();
            let below = [name, b"/", entry.as_bytes()].concat();
            by_host(&path.join(&entry), &below, tree);
        }
    }
}

fn by_server(client: &Client, node: u64, attr: &Attr, name: &[u8], tree: &mut Tree) {
    let kind = attr.mode & libc::S_IFMT;
    let bytes = match kind {
        libc::S_IFLNK => client.readlink(node).unwrap(),
        libc::S_IFREG => {
            let fh = client.open(node, libc::O_RDONLY).map_or(0, |open| open.fh);
            client.read_all(node, fh)
        }
        _ => Vec::new(),
    };
    let seen = Seen {
        stat: [
            attr.ino,
            attr.size,
            attr.blocks,
            attr.mtime,
            attr.mtimensec.into(),
            attr.ctime,
            attr.ctimensec.into(),
            attr.mode.into(),
            attr.nlink.into(),
            attr.uid.into(),
            attr.gid.into(),
            attr.rdev.into(),
            attr.blksize.into(),
            0,
            0,
            0,
        ],
        bytes,
    };
    tree.insert(name.to_vec(), seen);
    if kind == libc::S_IFDIR {
        let fh = client.opendir(node).map_or(0, |open| open.fh);
        for listed in client.list(opcode::READDIRPLUS, node, fh, 4096) {
            if listed.name == b"." || listed.name == b".." {
                continue;
            }
            let entry = listed.entry.unwrap();
            let looked_up = client.lookup(node, &listed.name).unwrap();
            assert_eq!(looked_up, entry);
            assert_eq!(client.getattr(entry.nodeid), Ok(entry.attr));
            let below = [name, b"/", &listed.name].concat();
            by_server(client, entry.nodeid, &entry.attr, &below, tree);
        }
    }
}

fn compare(content: impl FnOnce(&Path) -> Content) {
    let folder = sample();
    let client = Client::mount(folder.path(), content(folder.path()));
    let (mut host, mut server) = (Tree::new(), Tree::new());
    by_host(folder.path(), b"", &mut host);
    let root = client.getattr(ROOT_ID).unwrap();
    by_server(&client, ROOT_ID, &root, b"", &mut server);
    assert!(host.len() > 510);
    assert_eq!(server, host);
}

#[test]
fn an_immutable_tree_is_the_hosts() {
    compare(|_| immutable());
}

#[test]
fn a_changing_tree_is_the_hosts() {
    compare(|_| changing());
}

#[test]
fn a_closure_of_everything_is_the_hosts_tree() {
    compare(|root| closure(root, &["one", "empty"]));
}

#[test]
fn a_directory_deeper_than_a_path_is_long_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let name = "d".repeat(200);
    let mut place = rustix::fs::open(
        folder.path(),
        rustix::fs::OFlags::PATH,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    for _ in 0..100 {
        rustix::fs::mkdirat(&place, &*name, 0o755.into()).unwrap();
        let flags = rustix::fs::OFlags::PATH;
        place = rustix::fs::openat(&place, &*name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let path = vec![&*name; 100].join("/");
        let deepest = client.node(&path);
        let expected = rustix::fs::fstat(&place).unwrap().st_ino;
        assert_eq!(client.getattr(deepest).unwrap().ino, expected);
        let absent = client.lookup(deepest, b"x").map(|entry| entry.nodeid);
        assert!(matches!(absent, Ok(0) | Err(rustix::io::Errno::NOENT)));
    }
}
