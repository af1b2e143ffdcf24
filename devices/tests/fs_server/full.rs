//! A full disk: whatever a guest does, a part of the host's stays free.
//!
//! The disk is a small one in memory, in a mount namespace of the test's thread, which takes root.
#![expect(unsafe_code, reason = "unshare(2) is unsafe for some of its flags")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use devices::virtio::fs::wire::{ROOT_ID, StatfsOut, opcode};
use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::changes::mount_writable;
use crate::client::{Client, object};
use crate::writable::share;

/// Bytes of one write: as many as a guest may.
const WRITE_BYTES: usize = 1 << 20;

/// 5 % of 32 MiB in pages, as the reserve has it.
const RESERVED_BLOCKS: u64 = 8192 / 20;

/// 5 % of the inodes.
const RESERVED_INODES: u64 = 1000 / 20;

/// Mounts a disk of 32 MiB and 1,000 files for this thread alone; false where that is not allowed.
fn mount_disk(at: &Path) -> bool {
    // SAFETY: not one of the flags that are unsafe. The thread gets its own mounts, and a current
    // folder of its own.
    let own = unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) };
    match own {
        Err(Errno::PERM) => return false,
        done => done.unwrap(),
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", private) {
        // The root of a `chroot` that is no mount: the disk would show in other namespaces.
        Err(Errno::INVAL) => return false,
        done => done.unwrap(),
    }
    let options = c"size=32m,nr_inodes=1000";
    mount("disk", at, "tmpfs", MountFlags::empty(), options).unwrap();
    true
}

/// Has a guest use such a disk.
fn on_small_disk(use_it: impl FnOnce(&Client, &Path) + Send) {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let work = || {
            if mount_disk(folder.path()) {
                use_it(&mount_writable(folder.path()), folder.path());
            }
        };
        scope.spawn(work).join().unwrap();
    });
}

fn left(disk: &Path) -> StatVfs {
    statvfs(disk).unwrap()
}

/// Makes a file and opens it.
fn open(client: &Client, name: &str) -> (u64, u64) {
    let (entry, open) = client
        .create(ROOT_ID, name.as_bytes(), libc::O_RDWR, 0o600)
        .unwrap();
    (entry.nodeid, open.fh)
}

/// Writes whole pages at `offset` and on until there is no room for one; how many bytes.
fn fill(client: &Client, (node, fh): (u64, u64), offset: u64) -> u64 {
    let mut bytes = WRITE_BYTES;
    let mut end = offset;
    while bytes >= 4096 {
        match client.write(node, fh, end, &vec![1; bytes], 0) {
            Ok(written) => end += written as u64,
            Err(error) => {
                assert_eq!(error, Errno::NOSPC);
                bytes /= 2;
            }
        }
    }
    end - offset
}

#[test]
fn a_part_of_the_disk_is_not_the_guests() {
    let (folder, client) = share();
    let host = statvfs(folder.path()).unwrap();
    let reply = client.call(opcode::STATFS, ROOT_ID, &[]).unwrap();
    let shown: StatfsOut = object(&reply);
    assert!(shown.bavail < host.f_bavail);
    let (entry, open) = client
        .create(ROOT_ID, b"file", libc::O_RDWR, 0o600)
        .unwrap();
    let all = host.f_bavail * host.f_frsize;
    let refused = client.fallocate(entry.nodeid, open.fh, 0, 0, all);
    assert_eq!(refused, Err(Errno::NOSPC));
    let kept_size = client.fallocate(entry.nodeid, open.fh, libc::FALLOC_FL_KEEP_SIZE, 0, all);
    assert_eq!(kept_size, Err(Errno::NOSPC));
    let stat = fs::metadata(folder.path().join("file")).unwrap();
    assert_eq!((stat.len(), stat.blocks()), (0, 0));
}

#[test]
fn a_guest_that_writes_all_it_can_leaves_the_reserve() {
    on_small_disk(|client, disk| {
        let file = open(client, "file");
        let written = fill(client, file, 0);
        assert!(written > 28 << 20, "{written}");
        assert!(left(disk).f_bavail >= RESERVED_BLOCKS);
        // Its own pages it may still change, as on any full disk.
        client.write(file.0, file.1, 0, &[2; 4096], 0).unwrap();
        let made = client.mkdir(ROOT_ID, b"directory", 0o700);
        assert_eq!(made.err(), Some(Errno::NOSPC));
        // And what it gives back is its own again.
        client.unlink(ROOT_ID, b"file").unwrap();
        client.release(file.0, file.1).unwrap();
        assert!(fill(client, open(client, "again"), 0) > 28 << 20);
    });
}

#[test]
fn files_without_content_leave_the_reserve_too() {
    on_small_disk(|client, disk| {
        let made = (0..2000).find_map(|nth| {
            let name = format!("{nth}");
            let made = client.mkdir(ROOT_ID, name.as_bytes(), 0o700);
            made.err().map(|error| (nth, error))
        });
        let (made, error) = made.unwrap();
        assert_eq!(error, Errno::NOSPC);
        assert!(made > 900, "{made}");
        assert!(left(disk).f_favail >= RESERVED_INODES);
    });
}

#[test]
fn no_trick_with_holes_takes_more_than_half_of_the_reserve() {
    on_small_disk(|client, disk| {
        let file = open(client, "file");
        let half = 14 << 20;
        // A file of holes, for which as many bytes are allotted past its end.
        let keep_size = libc::FALLOC_FL_KEEP_SIZE;
        client.truncate(file.0, None, half).unwrap();
        client
            .fallocate(file.0, file.1, keep_size, half, half)
            .unwrap();
        fill(client, open(client, "rest"), 0);
        fill(client, file, 0);
        assert!(left(disk).f_bavail >= RESERVED_BLOCKS / 2);
    });
}
