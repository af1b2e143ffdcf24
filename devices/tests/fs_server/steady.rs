//! What goes on for as long as a guest runs takes no memory from the heap.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::symlink;

use allocation_counter::measure;
use devices::virtio::Fault;
use devices::virtio::fs::wire::{GetattrIn, OutHeader, ROOT_ID, ReadIn, opcode};
use devices::virtio::fs::{Serve, Sink};
use zerocopy::{FromZeros, IntoBytes};

use crate::client::{Client, Given, closure, header};

/// Pages of a guest, which are there already.
struct Pages {
    bytes: Vec<u8>,
    body_bytes: usize,
    header: OutHeader,
}

impl Sink for Pages {
    fn room(&self) -> usize {
        self.bytes.len() - self.body_bytes
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let at = self.body_bytes;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.body_bytes += bytes.len();
        Ok(())
    }

    fn put_over(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn put_file(&mut self, file: BorrowedFd<'_>, offset: u64, limit: usize) -> io::Result<usize> {
        let at = self.body_bytes;
        let end = self.bytes.len().min(at + limit);
        let bytes = rustix::io::pread(file, &mut self.bytes[at..end], offset)?;
        self.body_bytes += bytes;
        Ok(bytes)
    }

    fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    fn finish(&mut self, header: &OutHeader) -> Result<usize, Fault> {
        self.header = *header;
        Ok(header.len as usize)
    }
}

#[test]
fn what_was_asked_before_is_answered_without_an_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().join("shown");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("file"), [7; 9000]).unwrap();
    symlink("file", shown.join("link")).unwrap();
    let client = Client::mount(folder.path(), closure(folder.path(), &["shown"]));
    let (top, file, link) = (
        client.node("shown"),
        client.node("shown/file"),
        client.node("shown/link"),
    );
    let getattr = GetattrIn::new_zeroed();
    let mut read = ReadIn::new_zeroed();
    read.size = 9000;
    let asked = [
        ("LOOKUP", opcode::LOOKUP, top, &b"file\0"[..]),
        ("LOOKUP, absent", opcode::LOOKUP, top, b"none\0"),
        ("LOOKUP, hidden", opcode::LOOKUP, ROOT_ID, b"hidden\0"),
        ("GETATTR", opcode::GETATTR, file, getattr.as_bytes()),
        ("READ", opcode::READ, file, read.as_bytes()),
        ("READLINK", opcode::READLINK, link, b""),
        ("READDIRPLUS", opcode::READDIRPLUS, top, read.as_bytes()),
        ("STATFS", opcode::STATFS, ROOT_ID, b""),
    ];
    let mut pages = Pages {
        bytes: vec![0; 1 << 16],
        body_bytes: 0,
        header: OutHeader::new_zeroed(),
    };
    let mut counted = Vec::new();
    for (name, opcode, node, body) in asked {
        let header = header(opcode, 11, node, body.len());
        let request = [header.as_bytes(), body].concat();
        let mut ask = || {
            pages.body_bytes = 0;
            let handled = client
                .server
                .handle(&request, &mut Given(&request), &mut pages);
            handled.unwrap();
        };
        ask();
        let allocations = measure(ask).count_total;
        assert_eq!(pages.header.error, 0, "{name}");
        assert!(pages.body_bytes > 0, "{name}");
        counted.push((name, allocations));
    }
    assert_eq!(counted, asked.map(|(name, ..)| (name, 0)));
    // It does count.
    assert_eq!(measure(|| drop(vec![0; 9000])).count_total, 1);
}
