//! READDIR and READDIRPLUS, to the byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use devices::virtio::fs::wire::{Dirent, EntryOut, LISTING_END, ROOT_ID, opcode};
use rustix::io::Errno;
use tempfile::TempDir;
use zerocopy::{FromZeros, IntoBytes};

use crate::client::{Client, changing, closure, immutable, parse_listing, read_in};

fn names(listed: &[crate::client::Listed]) -> Vec<String> {
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    listed.iter().map(|entry| text(&entry.name)).collect()
}

/// A folder with a file, a directory and a link, and a file that no closure here has.
fn sample() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a-file"), "content").unwrap();
    fs::create_dir(folder.path().join("b-directory")).unwrap();
    symlink("a-file", folder.path().join("c-link")).unwrap();
    fs::write(folder.path().join("hidden"), "").unwrap();
    folder
}

fn dirent(ino: u64, off: u64, name: &[u8], kind: u8) -> Vec<u8> {
    let header = Dirent {
        ino,
        off,
        namelen: name.len() as u32,
        kind: kind.into(),
    };
    let mut bytes = [header.as_bytes(), name].concat();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

#[test]
fn a_filtered_root_lists_its_filter_in_order() {
    let folder = sample();
    let root = folder.path();
    let content = closure(root, &["c-link", "a-file", "b-directory", "missing"]);
    let client = Client::mount(root, content);
    let ino = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().ino();
    let own = fs::metadata(root).unwrap().ino();
    let expected = [
        dirent(own, 1, b".", libc::DT_DIR),
        dirent(own, 2, b"..", libc::DT_DIR),
        dirent(ino("a-file"), 3, b"a-file", libc::DT_REG),
        dirent(ino("b-directory"), 4, b"b-directory", libc::DT_DIR),
        dirent(ino("c-link"), LISTING_END, b"c-link", libc::DT_LNK),
    ];
    let reply = client
        .readdir(opcode::READDIR, ROOT_ID, 0, 0, 4096)
        .unwrap();
    assert_eq!(reply, expected.concat());
    for end in [5, LISTING_END] {
        let reply = client.readdir(opcode::READDIR, ROOT_ID, 0, end, 4096);
        assert_eq!(reply, Ok(vec![]));
    }
}

#[test]
fn a_filtered_root_with_nodes_lists_the_same_with_them() {
    let folder = sample();
    let root = folder.path();
    let client = Client::mount(root, closure(root, &["a-file", "b-directory", "c-link"]));
    let reply = client
        .readdir(opcode::READDIRPLUS, ROOT_ID, 0, 0, 4096)
        .unwrap();
    let own = fs::metadata(root).unwrap().ino();
    let mut expected = Vec::new();
    for (off, name) in [(1, "."), (2, "..")] {
        expected.extend(EntryOut::new_zeroed().as_bytes());
        expected.extend(dirent(own, off, name.as_bytes(), libc::DT_DIR));
    }
    let kinds = [libc::DT_REG, libc::DT_DIR, libc::DT_LNK];
    let names = ["a-file", "b-directory", "c-link"];
    for ((off, name), kind) in [3, 4, LISTING_END].into_iter().zip(names).zip(kinds) {
        let entry = client.lookup(ROOT_ID, name.as_bytes()).unwrap();
        expected.extend(entry.as_bytes());
        expected.extend(dirent(entry.attr.ino, off, name.as_bytes(), kind));
    }
    assert_eq!(reply, expected);
}

#[test]
fn a_hosts_directory_lists_what_the_host_lists() {
    let folder = sample();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let fh = client.opendir(ROOT_ID).map_or(0, |open| open.fh);
        let listed = client.list(opcode::READDIR, ROOT_ID, fh, 4096);
        let listed: BTreeSet<_> = listed
            .iter()
            .map(|entry| (entry.name.clone(), entry.dirent.ino, entry.dirent.kind))
            .collect();
        let own = fs::metadata(folder.path()).unwrap().ino();
        let ino = |name: &str| {
            fs::symlink_metadata(folder.path().join(name))
                .unwrap()
                .ino()
        };
        // `..` of the root is the root: what is above it is not told.
        let expected = [
            (".", own, libc::DT_DIR),
            ("..", own, libc::DT_DIR),
            ("a-file", ino("a-file"), libc::DT_REG),
            ("b-directory", ino("b-directory"), libc::DT_DIR),
            ("c-link", ino("c-link"), libc::DT_LNK),
            ("hidden", ino("hidden"), libc::DT_REG),
        ];
        let expected: BTreeSet<_> = expected
            .map(|(name, ino, kind)| (name.as_bytes().to_vec(), ino, kind.into()))
            .into();
        assert_eq!(listed, expected);
    }
}

#[test]
fn every_size_of_reply_gives_the_same_listing() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..300 {
        fs::write(
            folder
                .path()
                .join(format!("{n:0>width$}", width = 1 + n % 100)),
            "",
        )
        .unwrap();
    }
    fs::create_dir(folder.path().join("sub")).unwrap();
    let root = folder.path();
    let all: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let all: Vec<_> = all.iter().map(|name| &**name).collect();
    for content in [immutable(), changing(), closure(root, &all)] {
        let client = Client::mount(root, content);
        let fh = client.opendir(ROOT_ID).map_or(0, |open| open.fh);
        let whole = client.list(opcode::READDIR, ROOT_ID, fh, 1 << 20);
        assert_eq!(whole.len(), all.len() + 2);
        let ends = whole.iter().filter(|entry| entry.dirent.off == LISTING_END);
        assert_eq!(ends.count(), 1, "the last alone says that it is");
        // From room for the longest entry alone to several at a time.
        for size in [128, 129, 200, 1000, 4096, u32::MAX] {
            assert_eq!(client.list(opcode::READDIR, ROOT_ID, fh, size), whole);
        }
        for size in [256, 300, 1000, 4096, u32::MAX] {
            let plus = client.list(opcode::READDIRPLUS, ROOT_ID, fh, size);
            assert_eq!(names(&plus), names(&whole));
        }
    }
}

#[test]
fn a_reply_without_room_for_an_entry_is_not_the_end() {
    let folder = sample();
    for content in [immutable(), closure(folder.path(), &["a-file"])] {
        let client = Client::mount(folder.path(), content);
        for (listing, least) in [(opcode::READDIR, 32), (opcode::READDIRPLUS, 160)] {
            for size in [0, 1, least - 1] {
                let refused = client.readdir(listing, ROOT_ID, 0, 0, size);
                assert_eq!(refused, Err(Errno::INVAL));
                let body = read_in(0, 0, 4096);
                let room = size as usize;
                let refused = client.call_with_room(listing, ROOT_ID, body.as_bytes(), room);
                assert_eq!(refused, Err(Errno::INVAL));
            }
            let one = client.readdir(listing, ROOT_ID, 0, 0, least).unwrap();
            assert_eq!(parse_listing(listing, &one).len(), 1);
        }
    }
}

#[test]
fn only_what_is_listed_with_nodes_is_looked_up() {
    let folder = sample();
    let client = Client::mount(folder.path(), immutable());
    let reply = client
        .readdir(opcode::READDIRPLUS, ROOT_ID, 0, 0, 400)
        .unwrap();
    let listed = parse_listing(opcode::READDIRPLUS, &reply);
    assert_eq!(listed.len(), 2);
    for entry in listed.iter().filter_map(|listed| listed.entry) {
        client.forget(entry.nodeid, 1);
        assert_eq!(client.getattr(entry.nodeid).err(), Some(Errno::STALE));
    }
}

#[test]
fn positions_beyond_the_end_end() {
    let folder = sample();
    let client = Client::mount(folder.path(), closure(folder.path(), &["a-file"]));
    for offset in [3, 4, 1 << 40, u64::MAX] {
        let reply = client.readdir(opcode::READDIR, ROOT_ID, 0, offset, 4096);
        assert_eq!(reply, Ok(vec![]));
    }
    let client = Client::mount(folder.path(), immutable());
    let reply = client.readdir(opcode::READDIR, ROOT_ID, 0, LISTING_END, 4096);
    assert_eq!(reply, Ok(vec![]));
    let reply = client.readdir(opcode::READDIR, ROOT_ID, 0, u64::MAX, 4096);
    assert_eq!(reply, Err(Errno::INVAL));
}

#[test]
fn only_a_directory_is_listed() {
    let folder = sample();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        for name in ["a-file", "c-link"] {
            let node = client.node(name);
            for listing in [opcode::READDIR, opcode::READDIRPLUS] {
                let refused = client.readdir(listing, node, 0, 0, 4096);
                assert_eq!(refused, Err(Errno::NOTDIR));
            }
        }
    }
}
