//! Shares whose files change while the guest uses them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use devices::virtio::fs::wire::{ROOT_ID, opcode};
use devices::virtio::fs::{Content, Filter};
use rustix::fs::{Timespec, Timestamps};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::client::{Client, changing};

fn share(files: &[(&str, &str)]) -> (TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let client = Client::mount(folder.path(), changing());
    (folder, client)
}

#[test]
fn everything_is_believed_for_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let timeout = Duration::new(2, 500);
    let client = Client::mount(
        folder.path(),
        Content::Changing {
            timeout,
            filter: None,
        },
    );
    let entry = client.lookup(ROOT_ID, b"file").unwrap();
    assert_eq!((entry.entry_valid, entry.entry_valid_nsec), (2, 500));
    assert_eq!((entry.attr_valid, entry.attr_valid_nsec), (2, 500));
    let attr = client.getattr_out(entry.nodeid).unwrap();
    assert_eq!((attr.attr_valid, attr.attr_valid_nsec), (2, 500));
}

#[test]
fn of_single_files_nothing_is_seen_of_what_is_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file", "beside"] {
        fs::write(folder.path().join(name), "one").unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let filter = Filter::of_paths(folder.path(), [folder.path().join("file")]).unwrap();
    let content = Content::Changing {
        timeout: Content::CHANGING_TIMEOUT,
        filter: Some(filter),
    };
    let client = Client::mount(folder.path(), content);
    assert_eq!(client.lookup(ROOT_ID, b"beside").err(), Some(Errno::NOENT));
    let root = client.getattr(ROOT_ID).unwrap();
    assert_eq!(root.mode & 0o777, 0o755);
    client.node("file");
    // As editors do.
    fs::write(folder.path().join("new"), "two").unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("file")).unwrap();
    client.node("file");
    assert_eq!(client.lookup(ROOT_ID, b"new").err(), Some(Errno::NOENT));
}

#[test]
fn a_file_that_appears_is_there_at_once() {
    let (folder, client) = share(&[]);
    assert_eq!(client.lookup(ROOT_ID, b"file").err(), Some(Errno::NOENT));
    fs::write(folder.path().join("file"), "content").unwrap();
    client.node("file");
}

#[test]
fn an_edit_in_place_is_the_same_node_with_other_attributes() {
    let (folder, client) = share(&[("file", "old")]);
    let node = client.node("file");
    let fh = client.open(node, libc::O_RDONLY).unwrap().fh;
    fs::write(folder.path().join("file"), "edited").unwrap();
    assert_eq!(client.node("file"), node);
    assert_eq!(client.getattr(node).unwrap().size, 6);
    assert_eq!(client.getattr_of_open(node, fh).unwrap().size, 6);
    assert_eq!(client.read_open(node, fh, 0, 100), Ok(b"edited".to_vec()));
}

#[test]
fn a_file_of_another_size_than_was_told_is_looked_up_again() {
    let (folder, client) = share(&[("file", "old")]);
    let node = client.node("file");
    fs::write(folder.path().join("file"), "longer").unwrap();
    let open = || client.open(node, libc::O_RDONLY).map(|open| open.fh);
    assert_eq!(open(), Err(Errno::STALE));
    assert_eq!(client.node("file"), node);
    let fh = open().unwrap();
    assert_eq!(client.read_open(node, fh, 0, 100), Ok(b"longer".to_vec()));
    // A file that grows all the while is not refused for ever.
    fs::write(folder.path().join("file"), "longer still").unwrap();
    open().unwrap();
}

#[test]
fn a_replaced_file_is_another_node_and_the_open_one_stays() {
    let (folder, client) = share(&[("file", "old"), ("next", "replaced")]);
    let old = client.node("file");
    let fh = client.open(old, libc::O_RDONLY).unwrap().fh;
    fs::rename(folder.path().join("next"), folder.path().join("file")).unwrap();
    // The guest is told that its node is stale, and looks the name up again.
    assert_eq!(client.getattr(old).err(), Some(Errno::STALE));
    let reopened = client.open(old, libc::O_RDONLY).map(drop);
    assert_eq!(reopened, Err(Errno::STALE));
    let new = client.node("file");
    assert_ne!(new, old);
    let new_fh = client.open(new, libc::O_RDONLY).unwrap().fh;
    assert_eq!(
        client.read_open(new, new_fh, 0, 100),
        Ok(b"replaced".to_vec())
    );
    // Who has the old one open reads on in it, as on the host.
    assert_eq!(client.read_open(old, fh, 0, 100), Ok(b"old".to_vec()));
    assert_eq!(client.getattr_of_open(old, fh).unwrap().nlink, 0);
    client.release(old, fh).unwrap();
    assert_eq!(client.read_open(old, fh, 0, 100), Err(Errno::BADF));
}

#[test]
fn another_directory_of_the_same_path_is_the_same_node() {
    let (folder, client) = share(&[("directory/file", "old"), ("next/file", "new")]);
    let directory = client.node("directory");
    let file = client.node("directory/file");
    // As a host on overlayfs shows any directory that it had to forget: with another number.
    fs::rename(folder.path().join("directory"), folder.path().join("aside")).unwrap();
    fs::rename(folder.path().join("next"), folder.path().join("directory")).unwrap();
    assert_eq!(client.node("directory"), directory);
    assert_eq!(client.getattr(file).err(), Some(Errno::STALE));
    let found = client.node("directory/file");
    let fh = client.open(found, libc::O_RDONLY).unwrap().fh;
    assert_eq!(client.read_open(found, fh, 0, 100), Ok(b"new".to_vec()));
}

#[test]
fn a_removed_file_is_stale_and_then_absent() {
    let (folder, client) = share(&[("directory/file", "old")]);
    let node = client.node("directory/file");
    let directory = client.node("directory");
    fs::remove_dir_all(folder.path().join("directory")).unwrap();
    for node in [node, directory] {
        assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
    }
    let below = client.lookup(directory, b"file").err();
    assert_eq!(below, Some(Errno::STALE));
    assert_eq!(client.opendir(directory).map(drop), Err(Errno::STALE));
    assert_eq!(
        client.lookup(ROOT_ID, b"directory").err(),
        Some(Errno::NOENT)
    );
}

#[test]
fn a_file_that_shrinks_under_a_reader_ends_early() {
    let (folder, client) = share(&[("file", &"x".repeat(100_000))]);
    let node = client.node("file");
    let fh = client.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(
        client.read_open(node, fh, 0, 100_000).unwrap().len(),
        100_000
    );
    let file = fs::File::options()
        .write(true)
        .open(folder.path().join("file"))
        .unwrap();
    file.set_len(10).unwrap();
    assert_eq!(client.read_open(node, fh, 0, 100_000).unwrap().len(), 10);
    assert_eq!(client.read_open(node, fh, 50_000, 10), Ok(vec![]));
}

#[test]
fn a_directory_moved_out_of_the_share_is_no_way_out() {
    let (folder, client) = share(&[("directory/file", "inside")]);
    let outside = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
    let directory = client.node("directory");
    let file = client.node("directory/file");
    fs::rename(
        folder.path().join("directory"),
        outside.path().join("moved"),
    )
    .unwrap();
    fs::write(outside.path().join("moved/secret"), "outside").unwrap();
    for name in [&b"secret"[..], b"file"] {
        assert_eq!(client.lookup(directory, name).err(), Some(Errno::STALE));
    }
    let opened = client.open(file, libc::O_RDONLY).map(drop);
    assert_eq!(opened, Err(Errno::STALE));
    let listed = client.readdir(opcode::READDIRPLUS, directory, 0, 0, 4096);
    assert_eq!(listed, Err(Errno::BADF));
}

#[test]
fn a_link_put_in_the_way_is_never_followed() {
    let (folder, client) = share(&[("directory/text", "inside")]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("text"), "outside").unwrap();
    let directory = client.node("directory");
    let text = client.node("directory/text");
    fs::rename(folder.path().join("directory"), folder.path().join("aside")).unwrap();
    symlink(outside.path(), folder.path().join("directory")).unwrap();
    assert_eq!(client.getattr(text).err(), Some(Errno::STALE));
    let opened = client.open(text, libc::O_RDONLY).map(drop);
    assert_eq!(opened, Err(Errno::STALE));
    let below = client.lookup(directory, b"text").err();
    assert_eq!(below, Some(Errno::STALE));
    let link = client.lookup(ROOT_ID, b"directory").unwrap();
    assert_ne!(link.nodeid, directory);
    assert_eq!(link.attr.mode & libc::S_IFMT, libc::S_IFLNK);
}

#[test]
fn a_file_that_becomes_a_fifo_is_not_opened() {
    let (folder, client) = share(&[("file", "old")]);
    let node = client.node("file");
    let path = folder.path().join("file");
    fs::remove_file(&path).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, 0o666.into(), 0).unwrap();
    // Opening a FIFO to read waits for a writer, who never comes.
    let opened = client.open(node, libc::O_RDONLY).map(drop);
    assert_eq!(opened, Err(Errno::STALE));
}

#[test]
fn what_is_cached_of_a_file_is_kept_until_it_changes() {
    let (folder, client) = share(&[("file", "old")]);
    let path = folder.path().join("file");
    let node = client.node("file");
    // The file was written just now, so that its time alone proves nothing yet.
    assert!(!client.reopen_keeps_cache(node));
    assert!(!client.reopen_keeps_cache(node));
    fs::write(&path, "new").unwrap();
    // Setting the time of the content back does not hide the edit.
    let long_ago = Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: long_ago,
        last_modification: long_ago,
    };
    rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    assert!(!client.reopen_keeps_cache(node));
}

#[test]
fn what_is_cached_of_an_old_file_is_kept() {
    // A file that was there long before the test.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let client = Client::mount(folder, changing());
    let node = client.node("Cargo.toml");
    assert!(!client.reopen_keeps_cache(node));
    assert!(client.reopen_keeps_cache(node));
}

#[test]
fn open_files_are_their_nodes_alone() {
    let (_folder, client) = share(&[("a", "a"), ("b", "b")]);
    let (a, b) = (client.node("a"), client.node("b"));
    let fh = client.open(a, libc::O_RDONLY).unwrap().fh;
    let directory = client.opendir(ROOT_ID).unwrap().fh;
    for (node, handle) in [
        (b, fh),
        (a, 0),
        (a, fh + 100),
        (a, u64::MAX),
        (a, directory),
    ] {
        let read = client.read_open(node, handle, 0, 1);
        assert_eq!(read, Err(Errno::BADF));
        assert_eq!(client.release(node, handle), Err(Errno::BADF));
        let attr = client.getattr_of_open(node, handle);
        assert_eq!(attr.err(), Some(Errno::BADF));
    }
    assert_eq!(
        client.read_open(ROOT_ID, directory, 0, 1),
        Err(Errno::ISDIR)
    );
    let listed = client.readdir(opcode::READDIR, ROOT_ID, fh, 0, 4096);
    assert_eq!(listed, Err(Errno::BADF));
    assert_eq!(client.read_open(a, fh, 0, 1), Ok(b"a".to_vec()));
}

#[test]
fn a_listing_follows_the_directory_that_was_opened() {
    let (folder, client) = share(&[("directory/file", "")]);
    let directory = client.node("directory");
    let fh = client.opendir(directory).unwrap().fh;
    fs::write(folder.path().join("directory/later"), "").unwrap();
    let listed = client.list(opcode::READDIR, directory, fh, 4096);
    assert!(listed.iter().any(|entry| entry.name == b"later"));
    fs::remove_file(folder.path().join("directory/file")).unwrap();
    let listed = client.list(opcode::READDIRPLUS, directory, fh, 4096);
    assert!(!listed.iter().any(|entry| entry.name == b"file"));
}
