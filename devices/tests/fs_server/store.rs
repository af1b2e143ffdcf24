//! Shares whose files never change: asked once, and nothing but the closure.

use std::fs;
use std::os::unix::fs::symlink;

use devices::virtio::fs::wire::{FOPEN_KEEP_CACHE, Flags, ROOT_ID, opcode};
use devices::virtio::fs::{Content, Filter};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::client::{Client, OFFERED, closure, immutable};

const FOREVER: u64 = 1 << 40;

/// A store of two packages that refer to each other in each way there is, and one that neither
/// refers to.
fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for package in ["a-app", "b-lib", "c-secret"] {
        fs::create_dir_all(root.join(package).join("share")).unwrap();
        fs::write(root.join(package).join("share/text"), package).unwrap();
    }
    symlink("../c-secret/share/text", root.join("a-app/relative")).unwrap();
    symlink(root.join("c-secret"), root.join("a-app/absolute")).unwrap();
    folder
}

#[test]
fn nothing_outside_the_closure_exists() {
    let folder = store();
    let client = Client::mount(folder.path(), closure(folder.path(), &["a-app", "b-lib"]));
    for name in ["c-secret", "missing", ".links", "a-ap", "a-app2"] {
        let absent = client.lookup(ROOT_ID, name.as_bytes()).unwrap();
        assert_eq!((absent.nodeid, absent.entry_valid), (0, FOREVER), "{name}");
    }
    let listed = client.list(opcode::READDIRPLUS, ROOT_ID, 0, 4096);
    let names: Vec<_> = listed.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, [&b"."[..], b"..", b"a-app", b"b-lib"]);
    // Only their own text leads from the links to what is not there.
    let app = client.node("a-app");
    for link in [&b"relative"[..], b"absolute"] {
        let link = client.lookup(app, link).unwrap().nodeid;
        assert!(client.readlink(link).is_ok());
        assert_eq!(client.lookup(link, b"share").err(), Some(Errno::NOTDIR));
        assert_eq!(client.read(link, 0, 10), Err(Errno::LOOP));
    }
    let text = client.node("b-lib/share/text");
    assert_eq!(client.read(text, 0, 100), Ok(b"b-lib".to_vec()));
}

#[test]
fn the_filter_is_for_the_top_alone() {
    let folder = store();
    fs::create_dir(folder.path().join("a-app/c-secret")).unwrap();
    let client = Client::mount(folder.path(), closure(folder.path(), &["a-app"]));
    client.node("a-app/c-secret");
}

#[test]
fn a_hidden_name_costs_no_system_call() {
    let folder = store();
    let root = folder.path().to_path_buf();
    let client = Client::mount(&root, closure(&root, &["a-app"]));
    drop(folder);
    // The directory is gone, which only a system call could tell.
    assert_eq!(client.lookup(ROOT_ID, b"c-secret").unwrap().nodeid, 0);
}

#[test]
fn a_closure_is_believed_for_ever() {
    let folder = store();
    let client = Client::mount(folder.path(), closure(folder.path(), &["a-app", "gone"]));
    let top = client.lookup(ROOT_ID, b"a-app").unwrap();
    let below = client.lookup(top.nodeid, b"share").unwrap();
    for entry in [top, below] {
        assert_eq!((entry.entry_valid, entry.attr_valid), (FOREVER, FOREVER));
    }
    for (parent, name) in [(ROOT_ID, &b"gone"[..]), (top.nodeid, b"missing")] {
        let absent = client.lookup(parent, name).unwrap();
        assert_eq!((absent.nodeid, absent.entry_valid), (0, FOREVER));
        assert_eq!(absent.entry_valid_nsec, 0);
    }
    assert_eq!(client.getattr_out(ROOT_ID).unwrap().attr_valid, FOREVER);
}

#[test]
fn what_a_closure_that_grows_gets_is_there_at_once() {
    let folder = store();
    let root = folder.path();
    let paths = |name: &str| [root.join(name)];
    let filter = Filter::of_paths(root, paths("a-app")).unwrap().growing();
    let content = Content::Immutable {
        filter: Some(filter.clone()),
    };
    let client = Client::mount(root, content);
    // Nobody is to remember that.
    assert_eq!(client.lookup(ROOT_ID, b"b-lib").err(), Some(Errno::NOENT));
    let app = client.lookup(ROOT_ID, b"a-app").unwrap();
    assert_eq!(app.entry_valid, FOREVER);
    let absent = client.lookup(app.nodeid, b"missing").unwrap();
    assert_eq!((absent.nodeid, absent.entry_valid), (0, FOREVER));
    filter.extend(root, paths("b-lib")).unwrap();
    let text = client.node("b-lib/share/text");
    assert_eq!(client.read(text, 0, 100), Ok(b"b-lib".to_vec()));
    assert_eq!(
        client.lookup(ROOT_ID, b"c-secret").err(),
        Some(Errno::NOENT)
    );
}

#[test]
fn the_top_of_a_whole_store_is_believed_for_a_second() {
    let folder = store();
    let client = Client::mount(folder.path(), immutable());
    let top = client.lookup(ROOT_ID, b"a-app").unwrap();
    assert_eq!((top.entry_valid, top.attr_valid), (1, FOREVER));
    assert_eq!(client.getattr_out(ROOT_ID).unwrap().attr_valid, 1);
    assert_eq!(client.lookup(ROOT_ID, b"new").err(), Some(Errno::NOENT));
    fs::create_dir(folder.path().join("new")).unwrap();
    client.node("new");
    let below = client.lookup(top.nodeid, b"missing").unwrap();
    assert_eq!((below.nodeid, below.entry_valid), (0, FOREVER));
}

#[test]
fn files_are_read_without_being_opened() {
    let folder = store();
    let client = Client::mount(folder.path(), immutable());
    let text = client.node("a-app/share/text");
    let opened = client.open(text, libc::O_RDONLY).map(drop);
    assert_eq!(opened, Err(Errno::NOSYS));
    assert_eq!(client.opendir(ROOT_ID).map(drop), Err(Errno::NOSYS));
    assert_eq!(client.read(text, 2, 100), Ok(b"app".to_vec()));
    // Linux sends the handle of a file it opened by itself, which is 0.
    assert_eq!(client.getattr_of_open(text, 0).map(|attr| attr.size), Ok(5));
}

#[test]
fn a_guest_that_cannot_open_by_itself_is_answered() {
    let folder = store();
    let client = Client::attach(folder.path(), immutable());
    let known = Flags::NO_OPEN_SUPPORT | Flags::NO_OPENDIR_SUPPORT;
    client.init(7, 41, OFFERED & !known.bits()).unwrap();
    let text = client.node("a-app/share/text");
    let opened = client.open(text, libc::O_RDONLY).unwrap();
    assert_ne!(opened.open_flags & FOPEN_KEEP_CACHE, 0);
    assert_eq!(
        client.read_open(text, opened.fh, 0, 5),
        Ok(b"a-app".to_vec())
    );
    client.release(text, opened.fh).unwrap();
    client.opendir(ROOT_ID).unwrap();
    assert_eq!(client.open(ROOT_ID, 0).map(drop), Err(Errno::ISDIR));
}

#[test]
fn hard_links_are_cached_once() {
    let folder = store();
    let root = folder.path();
    fs::hard_link(root.join("a-app/share/text"), root.join("b-lib/share/same")).unwrap();
    let client = Client::mount(root, immutable());
    let first = client.node("a-app/share/text");
    let second = client.node("b-lib/share/same");
    assert_eq!(first, second);
    client.forget(first, 1);
    assert_eq!(client.read(second, 0, 10), Ok(b"a-app".to_vec()));
}

#[test]
fn a_repeated_look_at_everything_is_counted() {
    let folder = store();
    let client = Client::mount(folder.path(), immutable());
    let text = client.node("a-app/share/text");
    client.read(text, 0, 10).unwrap();
    let counters = client.server.counters();
    let expected = [("LOOKUP", 3), ("READ", 1), ("INIT", 1)];
    assert_eq!(counters.snapshot(), expected.into());
    assert_eq!(counters.requests(), 5);
    assert_eq!(
        (counters.nodes_refused(), counters.handles_refused()),
        (0, 0)
    );
}

#[test]
fn a_file_replaced_by_its_like_stays_its_node() {
    // As `nix-store --optimise` does with a store in use.
    let folder = store();
    let root = folder.path();
    let client = Client::mount(root, immutable());
    let text = client.node("a-app/share/text");
    fs::write(root.join("like"), "a-app").unwrap();
    fs::rename(root.join("like"), root.join("a-app/share/text")).unwrap();
    assert_eq!(client.node("a-app/share/text"), text);
    assert_eq!(client.getattr(text).map(|attr| attr.size), Ok(5));
    assert_eq!(client.read(text, 0, 10), Ok(b"a-app".to_vec()));
}
