//! What a guest makes and changes in a writable share.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use devices::virtio::fs::wire::{FOPEN_NOFLUSH, ROOT_ID, Set, opcode};
use devices::virtio::fs::{Content, Owners, Server};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::changes::{mount_writable, own, set, writable};
use crate::client::{Client, changing};

/// A folder, and a guest that has mounted it to change it.
pub fn share() -> (TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let client = mount_writable(folder.path());
    (folder, client)
}

/// The content of a file of the host's.
pub fn read(folder: &TempDir, path: &str) -> Vec<u8> {
    fs::read(folder.path().join(path)).unwrap()
}

/// The permissions of a file of the host's.
pub fn mode(folder: &TempDir, path: &str) -> u32 {
    let stat = fs::symlink_metadata(folder.path().join(path)).unwrap();
    stat.permissions().mode() & 0o7777
}

#[test]
fn the_host_sees_what_the_guest_writes_at_once() {
    let (folder, client) = share();
    let (entry, open) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o640)
        .unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    assert_eq!(entry.attr.mode, libc::S_IFREG | 0o640);
    assert_eq!((entry.attr.uid, entry.attr.gid), own());
    let data: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(client.write(node, fh, 3, &data, 0), Ok(data.len()));
    assert_eq!(read(&folder, "file"), [&[0; 3], &*data].concat());
    client.fsync(node, fh, 0).unwrap();
    client.fsync(node, fh, 1).unwrap();
    client.call(opcode::SYNCFS, ROOT_ID, &[0; 8]).unwrap();
    // What is written is what is read, and its size no surprise at the next opening.
    assert_eq!(client.read_open(node, fh, 3, 80_000), Ok(data));
    let again = client.open(node, libc::O_RDONLY).unwrap();
    assert_ne!(again.open_flags & FOPEN_NOFLUSH, 0);
    assert_eq!(
        open.open_flags & FOPEN_NOFLUSH,
        0,
        "mapped pages are written at close"
    );
    client.release(node, again.fh).unwrap();
    let cut = client.open(node, libc::O_WRONLY | libc::O_TRUNC).unwrap();
    assert_eq!(read(&folder, "file"), b"");
    client.release(node, cut.fh).unwrap();
    client.open(node, libc::O_RDONLY | libc::O_TRUNC).unwrap();
}

#[test]
fn a_file_without_a_name_goes_on_by_its_handle() {
    let (folder, client) = share();
    let (entry, open) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o600)
        .unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    client.unlink(ROOT_ID, b"file").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(client.write(node, fh, 0, b"kept", 0), Ok(4));
    assert_eq!(client.read_open(node, fh, 0, 10), Ok(b"kept".to_vec()));
    // Linux gives no handle with most of these.
    let attr = client.getattr(node).unwrap();
    assert_eq!((attr.nlink, attr.size), (0, 4));
    assert_eq!(client.chmod(node, 0o444).unwrap().mode & 0o777, 0o444);
    client.chmod(node, 0o644).unwrap();
    assert_eq!(client.truncate(node, None, 2).unwrap().size, 2);
    assert_eq!(client.truncate(node, Some(fh), 1).unwrap().size, 1);
    client.fsync(node, fh, 0).unwrap();
    let again = client.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(client.read_open(node, again, 0, 10), Ok(b"k".to_vec()));
    client.release(node, again).unwrap();
    // A new file, perhaps with the old one's number, is none of its.
    let other = client.create_file(ROOT_ID, b"file", b"other");
    assert_ne!(other, node);
    assert_eq!(client.getattr(node).unwrap().size, 1);
    client.release(node, fh).unwrap();
    assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
    assert_eq!(client.open(node, libc::O_RDWR).err(), Some(Errno::STALE));
    assert_eq!(client.getattr(other).unwrap().size, 5);
}

#[test]
fn a_number_that_the_host_gives_again_is_another_node() {
    let (_folder, client) = share();
    let mut nodes = Vec::new();
    for round in 0..50 {
        let name = format!("file-{round}");
        nodes.push(client.create_file(ROOT_ID, name.as_bytes(), b""));
        client.unlink(ROOT_ID, name.as_bytes()).unwrap();
    }
    let last = client.create_file(ROOT_ID, b"last", b"last");
    for node in nodes {
        assert_ne!(node, last);
        assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
        assert_eq!(client.truncate(node, None, 0).err(), Some(Errno::STALE));
    }
}

#[test]
fn a_renamed_directory_takes_all_below_it_along() {
    let (folder, client) = share();
    let directory = client.mkdir(ROOT_ID, b"old", 0o755).unwrap().nodeid;
    let below = client.mkdir(directory, b"below", 0o755).unwrap().nodeid;
    let file = client.create_file(below, b"file", b"content");
    let elsewhere = client.mkdir(ROOT_ID, b"elsewhere", 0o755).unwrap().nodeid;
    client
        .rename((ROOT_ID, b"old"), (elsewhere, b"new"), 0)
        .unwrap();
    assert_eq!(read(&folder, "elsewhere/new/below/file"), b"content");
    assert_eq!(client.getattr(file).unwrap().size, 7);
    assert_eq!(client.lookup(below, b"file").unwrap().nodeid, file);
    assert_eq!(client.lookup(elsewhere, b"new").unwrap().nodeid, directory);
    assert_eq!(client.lookup(ROOT_ID, b"old").err(), Some(Errno::NOENT));
    // What gets the old name is new.
    let again = client.mkdir(ROOT_ID, b"old", 0o755).unwrap().nodeid;
    assert_ne!(again, directory);
    client.create_file(again, b"file", b"");
    assert_eq!(client.getattr(file).unwrap().size, 7);
    // Two that change places keep what is theirs.
    let exchange = libc::RENAME_EXCHANGE;
    client
        .rename((elsewhere, b"new"), (ROOT_ID, b"old"), exchange)
        .unwrap();
    assert_eq!(client.node("old/below/file"), file);
    assert_eq!(client.lookup(elsewhere, b"new").unwrap().nodeid, again);
    assert_eq!(client.getattr(file).unwrap().size, 7);
}

#[test]
fn hard_links_are_one_node_at_the_name_seen_last() {
    let (folder, client) = share();
    let node = client.create_file(ROOT_ID, b"one", b"content");
    let linked = client.link(node, ROOT_ID, b"two").unwrap();
    assert_eq!((linked.nodeid, linked.attr.nlink), (node, 2));
    client.unlink(ROOT_ID, b"one").unwrap();
    assert_eq!(client.getattr(node).unwrap().nlink, 1);
    // The host links and removes as well.
    let path = |name: &str| folder.path().join(name);
    fs::hard_link(path("two"), path("three")).unwrap();
    fs::remove_file(path("two")).unwrap();
    assert_eq!(client.getattr(node).err(), Some(Errno::STALE));
    let found = client.lookup(ROOT_ID, b"three").unwrap();
    assert_eq!(found.nodeid, node);
    assert_eq!(client.getattr(node).unwrap().size, 7);
    let attr = client.link(node, ROOT_ID, b"four").unwrap().attr;
    assert_eq!((attr.nlink, attr.ino), (2, found.attr.ino));
}

#[test]
fn what_the_host_replaces_is_never_written_to() {
    let (folder, client) = share();
    let node = client.create_file(ROOT_ID, b"file", b"guest's");
    let fh = client.open(node, libc::O_RDWR).unwrap().fh;
    fs::write(folder.path().join("next"), "host's").unwrap();
    fs::rename(folder.path().join("next"), folder.path().join("file")).unwrap();
    assert_eq!(client.write(node, fh, 0, b"GUEST", 0), Ok(5));
    assert_eq!(client.truncate(node, None, 0).unwrap().size, 0);
    client.chmod(node, 0).unwrap();
    client
        .setxattr(node, b"user.a", b"b", 0)
        .unwrap_or_default();
    assert_eq!(read(&folder, "file"), b"host's");
    assert_ne!(mode(&folder, "file"), 0);
    client.release(node, fh).unwrap();
    for refused in [
        client.truncate(node, None, 0).map(drop),
        client.chmod(node, 0).map(drop),
        client.open(node, libc::O_RDWR).map(drop),
        client.setxattr(node, b"user.a", b"b", 0),
        client.link(node, ROOT_ID, b"link").map(drop),
    ] {
        assert_eq!(refused, Err(Errno::STALE));
    }
    assert_eq!(read(&folder, "file"), b"host's");
}

#[test]
fn nothing_is_made_in_a_directory_that_the_host_has_moved() {
    let (folder, client) = share();
    let outside = tempfile::tempdir().unwrap();
    let directory = client.mkdir(ROOT_ID, b"directory", 0o755).unwrap().nodeid;
    let file = client.create_file(directory, b"file", b"");
    let path = folder.path().join("directory");
    fs::rename(&path, folder.path().join("aside")).unwrap();
    let all_are_stale = || {
        for refused in [
            client
                .create(directory, b"new", libc::O_RDWR, 0o600)
                .map(drop),
            client.mkdir(directory, b"new", 0o700).map(drop),
            client.mknod(directory, b"new", libc::S_IFREG, 0).map(drop),
            client.symlink(directory, b"new", b"target").map(drop),
            client.link(file, directory, b"new").map(drop),
            client.unlink(directory, b"file"),
            client.rename((directory, b"file"), (ROOT_ID, b"file"), 0),
        ] {
            assert_eq!(refused, Err(Errno::STALE));
        }
    };
    all_are_stale();
    std::os::unix::fs::symlink(outside.path(), &path).unwrap();
    all_are_stale();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(
        fs::read_dir(folder.path().join("aside")).unwrap().count(),
        1
    );
}

#[test]
fn an_appended_write_goes_to_the_end_that_the_host_knows() {
    let (folder, client) = share();
    let node = client.create_file(ROOT_ID, b"log", b"guest\n");
    let append = libc::O_WRONLY | libc::O_APPEND;
    let fh = client.open(node, append).unwrap().fh;
    fs::write(folder.path().join("log"), "guest\nhost\n").unwrap();
    let long = vec![b'x'; 12_000];
    assert_eq!(client.write(node, fh, 6, &long, append), Ok(12_000));
    assert_eq!(read(&folder, "log"), [b"guest\nhost\n", &*long].concat());
}

#[test]
fn holes_are_found_made_and_copied() {
    let (folder, client) = share();
    let (entry, open) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o600)
        .unwrap();
    let (node, fh) = (entry.nodeid, open.fh);
    client.fallocate(node, fh, 0, 0, 1 << 20).unwrap();
    assert_eq!(client.getattr(node).unwrap().size, 1 << 20);
    client.write(node, fh, 1 << 20, b"end", 0).unwrap();
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    client.fallocate(node, fh, punch, 0, 1 << 20).unwrap();
    assert_eq!(client.lseek(node, fh, 0, libc::SEEK_HOLE), Ok(0));
    assert_eq!(client.lseek(node, fh, 0, libc::SEEK_DATA), Ok(1 << 20));
    assert_eq!(
        client.lseek(node, fh, 1 << 30, libc::SEEK_DATA),
        Err(Errno::NXIO)
    );
    assert_eq!(client.lseek(node, fh, 0, libc::SEEK_SET), Err(Errno::INVAL));
    assert_eq!(client.copy((node, fh, 1 << 20), (node, fh, 0), 3), Ok(3));
    assert_eq!(&read(&folder, "file")[..4], b"end\0");
    let collapse = libc::FALLOC_FL_COLLAPSE_RANGE;
    assert_eq!(
        client.fallocate(node, fh, collapse, 0, 4096),
        Err(Errno::OPNOTSUPP)
    );
}

#[test]
fn times_are_set_to_the_nanosecond() {
    let (folder, client) = share();
    let node = client.create_file(ROOT_ID, b"file", b"");
    let mut setattr = set(Set::ATIME | Set::MTIME);
    (setattr.atime, setattr.atimensec) = (0u64.wrapping_sub(1), 7);
    (setattr.mtime, setattr.mtimensec) = (1_000_000_000, 999_999_999);
    client.setattr(node, &setattr).unwrap();
    let stat = fs::metadata(folder.path().join("file")).unwrap();
    assert_eq!((stat.atime(), stat.atime_nsec()), (-1, 7));
    assert_eq!(
        (stat.mtime(), stat.mtime_nsec()),
        (1_000_000_000, 999_999_999)
    );
    client
        .setattr(node, &set(Set::MTIME | Set::MTIME_NOW))
        .unwrap();
    let stat = fs::metadata(folder.path().join("file")).unwrap();
    assert!(stat.mtime() > 1_700_000_000);
    assert_eq!(stat.atime(), -1);
}

#[test]
fn a_share_that_is_read_only_is_not_made_writable_by_a_handle() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "kept").unwrap();
    let client = Client::mount(folder.path(), changing());
    let node = client.node("file");
    let fh = client.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(client.write(node, fh, 0, b"gone", 0), Err(Errno::ROFS));
    assert_eq!(client.truncate(node, Some(fh), 0).err(), Some(Errno::ROFS));
    assert_eq!(client.fallocate(node, fh, 0, 0, 9), Err(Errno::ROFS));
    // Nor is a file of a writable one that was opened for reading alone.
    let writer = mount_writable(folder.path());
    let node = writer.node("file");
    let fh = writer.open(node, libc::O_RDONLY).unwrap().fh;
    assert_eq!(writer.write(node, fh, 0, b"gone", 0), Err(Errno::BADF));
    assert_eq!(writer.fallocate(node, fh, 0, 0, 9), Err(Errno::BADF));
    assert_eq!(read(&folder, "file"), b"kept");
}

#[test]
fn a_folder_that_cannot_be_shared_is_an_error() {
    let error = Server::open(
        Path::new("/no/such"),
        writable(),
        &std::sync::Arc::default(),
    );
    let error = format!("{:#}", error.err().unwrap());
    assert!(error.starts_with("cannot share /no/such: "), "{error}");
}

#[test]
fn processes_are_no_files_of_a_share() {
    let error = Server::open(Path::new("/proc"), writable(), &std::sync::Arc::default());
    let error = error.err().unwrap().to_string();
    assert!(error.starts_with("cannot share /proc: "), "{error}");
    let client = mount_writable(Path::new("/"));
    let proc = client.node("proc");
    assert_eq!(client.lookup(proc, b"self").err(), Some(Errno::ACCESS));
    let pid = std::process::id().to_string();
    assert_eq!(
        client.lookup(proc, pid.as_bytes()).err(),
        Some(Errno::ACCESS)
    );
}

#[test]
fn a_file_system_that_is_closed_is_shown_and_nothing_in_it() {
    let dev = fs::metadata("/dev").unwrap().dev();
    assert_ne!(dev, fs::metadata("/").unwrap().dev());
    let content = Content::Writable {
        timeout: Content::CHANGING_TIMEOUT,
        owners: Owners::Same,
        closed: Some(dev),
    };
    let client = Client::mount(Path::new("/"), content);
    let node = client.node("dev");
    assert_eq!(client.lookup(node, b"null").err(), Some(Errno::ACCESS));
    client.node("tmp");
}
