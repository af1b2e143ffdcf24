//! Trees of all shapes, as another program reads them (`fsck.erofs`, of the package erofs-utils).

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::super::tree::Root;
use super::inode::SLOT_BYTES;
use super::*;

/// A folder, and the file system that it becomes.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("store").join(name)
    }

    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn folder(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
    }

    fn root(&self) -> Root {
        Root::at(&self.path("")).unwrap()
    }

    fn tree(&self) -> Tree {
        let entries = fs::read_dir(self.path("")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.collect();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        self.root().tree(&names).unwrap()
    }

    /// The whole file system as a file, with large files in their places.
    fn image(&self) -> PathBuf {
        let tree = self.tree();
        let layout = Layout::of(&tree).unwrap();
        let path = self.folder.path().join("image");
        let file = File::create(&path).unwrap();
        write(&tree, &layout, |path| self.root().file(path), &file).unwrap();
        assert_eq!(
            file.metadata().unwrap().len(),
            layout.head_blocks() * BLOCK_BYTES
        );
        for (nth, extent) in tree.extents.iter().enumerate() {
            if !extent.is_small() {
                let content = fs::read(self.path(str::from_utf8(&extent.path).unwrap())).unwrap();
                let at = u64::from(layout.extent(nth)) * BLOCK_BYTES;
                file.write_all_at(&content, at).unwrap();
            }
        }
        file.set_len(layout.blocks() * BLOCK_BYTES).unwrap();
        path
    }

    /// What another program makes of it, without a complaint.
    fn extracted(&self) -> PathBuf {
        let to = self.folder.path().join("extracted");
        let extract = format!("--extract={}", to.display());
        assert_clean(&fsck(&[&extract, "--preserve-perms"], &self.image()));
        to
    }

    fn assert_same(&self) {
        let list = |folder: &Path| {
            let mut list = Vec::new();
            describe(folder, folder, &mut list);
            list.sort();
            list
        };
        assert_eq!(list(&self.extracted()), list(&self.path("")));
    }
}

/// Each thing in a folder: its path, its permissions, and what it holds.
fn describe(top: &Path, path: &Path, list: &mut Vec<(PathBuf, u32, Vec<u8>)>) {
    let facts = fs::symlink_metadata(path).unwrap();
    let content = if facts.is_symlink() {
        fs::read_link(path)
            .unwrap()
            .into_os_string()
            .into_encoded_bytes()
    } else if facts.is_file() {
        fs::read(path).unwrap()
    } else {
        for entry in fs::read_dir(path).unwrap() {
            describe(top, &entry.unwrap().path(), list);
        }
        Vec::new()
    };
    let name = path.strip_prefix(top).unwrap();
    list.push((name.into(), facts.permissions().mode(), content));
}

fn fsck(flags: &[&str], image: &Path) -> Output {
    let mut fsck = Command::new("fsck.erofs");
    fsck.args(flags)
        .arg(image)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    fsck.output().expect("fsck.erofs, of erofs-utils")
}

#[track_caller]
fn assert_clean(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn files_of_all_sizes_are_in_it() {
    let fixture = Fixture::new();
    fixture.folder("sizes");
    let small = SMALL_BYTES_MAX as usize;
    for size in [0, 1, 4095, 4096, 4097, small - 1, small, small + 1, 300_000] {
        let content: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
        fixture.file(&format!("sizes/{size}"), &content);
    }
    fixture.file("alone", b"a store path that is a file");
    fixture.assert_same();
}

#[test]
fn folders_links_and_permissions_are_in_it() {
    let fixture = Fixture::new();
    fixture.folder("empty");
    for depth in 1..60 {
        fixture.folder(&vec!["deep"; depth].join("/"));
    }
    fixture.folder("links");
    // As long as they may be, just too long to be beside their inodes, and one byte less.
    for length in [1, 4063, 4064, 4065, 4094, 4095] {
        symlink("x".repeat(length), fixture.path(&format!("links/{length}"))).unwrap();
    }
    symlink("/nowhere", fixture.path("a-link")).unwrap();
    for mode in [0o444, 0o555, 0o600, 0o1644] {
        let name = format!("links/{mode:o}");
        fixture.file(&name, b"x");
        fs::set_permissions(fixture.path(&name), Permissions::from_mode(mode)).unwrap();
    }
    fixture.assert_same();
}

#[test]
fn a_folder_of_thousands_is_in_it() {
    let fixture = Fixture::new();
    fixture.folder("many");
    for number in 0..5000 {
        let name = format!("many/{number}-{}", "n".repeat(number % 97));
        fixture.file(&name, number.to_string().as_bytes());
    }
    // Names that come before "." and behind it, and some that are no text.
    for name in [
        "many/!",
        "many/-",
        "many/..a",
        "many/.a",
        "many/\u{7f}",
        "many/\u{e4}",
    ] {
        fixture.file(name, b"odd");
    }
    fixture.assert_same();
}

/// Directories of which the last block is full, or has one byte to spare, or one too few.
#[test]
fn folders_that_end_with_a_block_are_in_it() {
    let fixture = Fixture::new();
    for more in 0..40 {
        let folder = format!("full-{more}");
        fixture.folder(&folder);
        // 27 bytes for "." and "..", and 12 beside each name: from 4060 to 4099 of a block's 4096.
        let mut bytes = 27;
        for nth in 0..17 {
            let length = if nth == 0 { 195 + more } else { 225 };
            let name = format!("{nth:02}{}", "n".repeat(length));
            bytes += 12 + name.len();
            fixture.file(&format!("{folder}/{name}"), b"");
        }
        assert_eq!(bytes, 4060 + more);
    }
    fixture.assert_same();
}

/// The other program shows such names, and cannot look for them.
#[test]
fn the_longest_name_is_in_it() {
    let fixture = Fixture::new();
    fixture.folder("long");
    let names: Vec<String> = ('a'..='z').map(|c| c.to_string().repeat(255)).collect();
    for name in &names {
        fixture.file(&format!("long/{name}"), b"x");
    }
    let image = fs::read(fixture.image()).unwrap();
    let found = names.iter().filter(|name| {
        let name = name.as_bytes();
        image.windows(name.len()).any(|window| window == name)
    });
    assert_eq!(found.count(), names.len());
    assert_clean(&fsck(&[], &fixture.image()));
}

#[test]
fn it_is_the_same_each_time() {
    let fixture = Fixture::new();
    fixture.folder("a");
    for name in ["a/z", "a/b", "x"] {
        fixture.file(name, name.as_bytes());
    }
    let first = fs::read(fixture.image()).unwrap();
    assert_eq!(fs::read(fixture.image()).unwrap(), first);
    let other = Fixture::new();
    other.file("x", b"x");
    other.folder("a");
    for name in ["a/b", "a/z"] {
        other.file(name, name.as_bytes());
    }
    assert!(fs::read(other.image()).unwrap() == first);
}

#[test]
fn files_with_several_names_are_in_it_once() {
    let fixture = Fixture::new();
    fixture.file("first", &vec![5; 100_000]);
    fs::hard_link(fixture.path("first"), fixture.path("second")).unwrap();
    let tree = fixture.tree();
    assert_eq!((tree.nodes.len(), tree.extents.len()), (3, 1));
    fixture.assert_same();
}

#[test]
fn what_no_store_has_is_refused() {
    let fixture = Fixture::new();
    fixture.folder("a");
    let socket = fixture.path("a/socket");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let error = fixture.root().tree(&BTreeSet::from(["a"])).unwrap_err();
    let words = "cannot read a: socket: it is neither a file nor a folder nor a link, and no store has others";
    assert_eq!(format!("{error:#}"), words);
    let error = fixture.root().tree(&BTreeSet::from(["b"])).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("cannot read b: No such file"),
        "{error:#}"
    );
}

/// A tree of files that are only said to be there.
fn said(sizes: &[u64]) -> Tree {
    let file = |nth| Node {
        permissions: 0o444,
        kind: Kind::File(Some(nth)),
    };
    let entries = (0..sizes.len()).map(|nth| (format!("{nth}").into_bytes(), nth + 1));
    let top = Node {
        permissions: 0o555,
        kind: Kind::Directory {
            parent: 0,
            entries: entries.collect(),
        },
    };
    let extent = |bytes: &u64| Extent {
        path: Vec::new(),
        bytes: *bytes,
    };
    Tree {
        nodes: std::iter::once(top)
            .chain((0..sizes.len()).map(file))
            .collect(),
        extents: sizes.iter().map(extent).collect(),
    }
}

#[test]
fn sizes_beyond_32_bits_have_inodes_and_blocks() {
    let sizes = [(4 << 30) - 1, 4 << 30, (4 << 30) + 1, 5 << 40, 70_000];
    let tree = said(&sizes);
    let layout = Layout::of(&tree).unwrap();
    let mut next = layout.head_blocks();
    for (nth, bytes) in sizes.iter().enumerate() {
        assert_eq!(u64::from(layout.extent(nth)), next, "{bytes}");
        next += bytes.div_ceil(4096);
    }
    assert_eq!(layout.blocks(), next);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let file = File::create(&image).unwrap();
    write(&tree, &layout, |_| unreachable!("no file is small"), &file).unwrap();
    file.set_len(layout.blocks() * BLOCK_BYTES).unwrap();
    assert_clean(&fsck(&[], &image));
    assert!(Layout::of(&said(&[15 << 40, 2 << 40])).is_err());
}

#[test]
fn a_damaged_superblock_is_seen() {
    let fixture = Fixture::new();
    fixture.file("a", b"a");
    let image = fs::read(fixture.image()).unwrap();
    let blocks = image.len() as u64 / BLOCK_BYTES;
    let mut first: [u8; BLOCK_BYTES as usize] = image[..BLOCK_BYTES as usize].try_into().unwrap();
    assert!(is_whole(&first, blocks));
    assert!(!is_whole(&first, blocks + 1));
    for at in [1024, 1028, 1100, SUPERBLOCK_END as usize + 3, 4095] {
        first[at] ^= 1;
        assert!(!is_whole(&first, blocks), "{at}");
        first[at] ^= 1;
    }
    assert!(SUPERBLOCK_END.is_multiple_of(SLOT_BYTES));
}
