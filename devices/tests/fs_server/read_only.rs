//! A share is read-only whatever the guest's mount says.

use devices::virtio::fs::Serve;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use devices::virtio::fs::wire::{ROOT_ID, opcode};
use rustix::io::Errno;

use crate::client::{Client, changing, header, immutable};

const MUTATING: [u32; 16] = [
    opcode::SETATTR,
    opcode::SYMLINK,
    opcode::MKNOD,
    opcode::MKDIR,
    opcode::UNLINK,
    opcode::RMDIR,
    opcode::RENAME,
    opcode::LINK,
    opcode::WRITE,
    opcode::SETXATTR,
    opcode::REMOVEXATTR,
    opcode::CREATE,
    opcode::FALLOCATE,
    opcode::RENAME2,
    opcode::COPY_FILE_RANGE,
    opcode::TMPFILE,
];

/// What would differ if anything had been changed.
fn trace(path: &Path) -> (i64, i64, u64, Vec<u8>) {
    let stat = fs::metadata(path).unwrap();
    let content = fs::read(path).unwrap_or_default();
    (stat.ctime(), stat.ctime_nsec(), stat.nlink(), content)
}

#[test]
fn every_change_is_refused_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "content").unwrap();
    let before = (trace(folder.path()), trace(&file));
    let name_and_zeros = [b"file\0".as_slice(), &[0; 200]].concat();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let node = client.node("file");
        for mutating in MUTATING {
            for body in [&[][..], &[0; 8], &[0; 200], &[0xff; 4000], &name_and_zeros] {
                for node in [ROOT_ID, node, 0, u64::MAX] {
                    let answer = client.call(mutating, node, body);
                    assert_eq!(answer, Err(Errno::ROFS), "{mutating}");
                }
            }
        }
    }
    assert_eq!((trace(folder.path()), trace(&file)), before);
}

#[test]
fn a_write_is_refused_without_its_data_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::mount(folder.path(), immutable());
    // The device copies the first bytes of a request; the data may be a megabyte.
    let request = header(opcode::WRITE, 3, ROOT_ID, 40 + (1 << 20));
    let request = [zerocopy::IntoBytes::as_bytes(&request), &[0; 40]].concat();
    let mut reply = Reply::default();
    let whole = [&*request, &vec![0; 1 << 20]].concat();
    let mut source = crate::client::Given(&whole);
    let handled = client.server.handle(&request, &mut source, &mut reply);
    handled.unwrap();
    assert_eq!(reply.error, -libc::EROFS);
}

#[test]
fn opening_to_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    for content in [immutable(), changing()] {
        let client = Client::mount(folder.path(), content);
        let node = client.node("file");
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR,
            libc::O_ACCMODE,
            libc::O_RDONLY | libc::O_TRUNC,
            libc::O_RDONLY | libc::O_CREAT,
            libc::O_RDWR | libc::O_APPEND | libc::O_DIRECT,
            -1,
        ] {
            let refused = client.open(node, flags).map(drop);
            assert_eq!(refused, Err(Errno::ROFS), "{flags:#o}");
        }
    }
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"content");
}

/// Keeps a reply's error alone.
#[derive(Default)]
struct Reply {
    error: i32,
}

impl devices::virtio::fs::Sink for Reply {
    fn room(&self) -> usize {
        0
    }

    fn put(&mut self, _: &[u8]) -> Result<(), devices::virtio::Fault> {
        unreachable!("there is no room")
    }

    fn put_over(&mut self, _: usize, _: &[u8]) -> Result<(), devices::virtio::Fault> {
        unreachable!("there is no body")
    }

    fn put_file(
        &mut self,
        _: std::os::fd::BorrowedFd<'_>,
        _: u64,
        _: usize,
    ) -> std::io::Result<usize> {
        unreachable!("there is no room")
    }

    fn body_bytes(&self) -> usize {
        0
    }

    fn finish(
        &mut self,
        header: &devices::virtio::fs::wire::OutHeader,
    ) -> Result<usize, devices::virtio::Fault> {
        self.error = header.error;
        Ok(16)
    }
}
