//! Tests of a catalog and its server, by FUSE's messages.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::super::{Fault, Position};
use super::super::exchange::Serve;
use super::super::reply::{Sink, Source};
use super::super::wire::{
    AttrOut, Dirent, EntryOut, GetattrIn, GetxattrIn, InHeader, InitIn, LISTING_END, OutHeader,
    ReadIn, opcode,
};
use super::*;

struct Given(usize);

impl Source for Given {
    fn total_bytes(&self) -> usize {
        self.0
    }

    fn read(&mut self, _: usize, _: &mut [u8]) -> Result<usize, Fault> {
        Ok(0)
    }

    fn write_to(
        &mut self,
        _: usize,
        _: usize,
        _: BorrowedFd<'_>,
        _: Position,
    ) -> io::Result<usize> {
        Ok(0)
    }
}

/// A reply in memory, of at most a page.
#[derive(Default)]
struct Page {
    body: Vec<u8>,
    error: i32,
}

impl Sink for Page {
    fn room(&self) -> usize {
        4096 - self.body.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn put_over(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.body[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn put_file(&mut self, file: BorrowedFd<'_>, at: u64, limit: usize) -> io::Result<usize> {
        // Never all at once, as a signal may have it.
        let mut buffer = vec![0; limit.min(3)];
        let bytes = rustix::io::pread(file, &mut buffer, at)?;
        self.body.extend_from_slice(&buffer[..bytes]);
        Ok(bytes)
    }

    fn body_bytes(&self) -> usize {
        self.body.len()
    }

    fn finish(&mut self, header: &OutHeader) -> Result<usize, Fault> {
        self.error = header.error;
        Ok(header.len as usize)
    }
}

fn call(server: &server::Server, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut header = InHeader::new_zeroed();
    header.len = (size_of::<InHeader>() + body.len()) as u32;
    (header.opcode, header.nodeid) = (opcode, node);
    let request = [header.as_bytes(), body].concat();
    let mut page = Page::default();
    let mut source = Given(request.len());
    server.handle(&request, &mut source, &mut page).unwrap();
    match page.error {
        0 => Ok(page.body),
        error => Err(Errno::from_raw_os_error(-error)),
    }
}

fn node(mode: u32, body: Body) -> Node {
    Node {
        mode,
        uid: 1000,
        gid: 100,
        rdev: 0,
        modified: (-1, 5),
        attributes: Vec::new(),
        body,
    }
}

fn directory(entries: &[(&str, u32)]) -> Node {
    let entries = entries.iter();
    let entries = entries.map(|(name, child)| (name.as_bytes().into(), *child));
    node(0o040_755, Body::Directory(entries.collect()))
}

fn extent(offset: u64, bytes: u64) -> Body {
    Body::File(Extent {
        content: 0,
        offset,
        bytes,
    })
}

/// `/dir/{hard,suid}` are one file, `/link`, `/null`.
fn sample() -> Vec<Node> {
    let mut suid = node(0o104_755, extent(2, 7));
    suid.attributes = vec![((*b"user.a").into(), (*b"value").into())];
    vec![
        directory(&[("dir", 1), ("link", 3), ("null", 4)]),
        directory(&[("hard", 2), ("suid", 2)]),
        suid,
        node(0o120_777, Body::Link((*b"/outside").into())),
        Node {
            rdev: 0x0103,
            ..node(0o020_666, Body::Special)
        },
    ]
}

fn contents() -> Vec<OwnedFd> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"..content..").unwrap();
    vec![file.into()]
}

fn serve(nodes: Vec<Node>, contents: Vec<OwnedFd>) -> server::Server {
    let catalog = Catalog::new(nodes, contents).unwrap();
    let server = server::Server::new(Arc::new(catalog));
    let init = InitIn {
        major: 7,
        minor: 41,
        max_readahead: 0,
        flags: u32::MAX,
    };
    call(&server, opcode::INIT, 0, init.as_bytes()).unwrap();
    server
}

fn lookup(server: &server::Server, parent: u64, name: &str) -> Result<EntryOut, Errno> {
    let name = [name.as_bytes(), &[0]].concat();
    let body = call(server, opcode::LOOKUP, parent, &name)?;
    Ok(EntryOut::read_from_bytes(&body).unwrap())
}

fn read(server: &server::Server, node: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
    let mut read = ReadIn::new_zeroed();
    (read.offset, read.size) = (offset, size);
    call(server, opcode::READ, node, read.as_bytes())
}

#[test]
fn attributes_are_those_of_the_tree() {
    let server = serve(sample(), contents());
    let dir = lookup(&server, 1, "dir").unwrap();
    let suid = lookup(&server, dir.nodeid, "suid").unwrap();
    let hard = lookup(&server, dir.nodeid, "hard").unwrap();
    assert_eq!(suid, hard);
    let attr = suid.attr;
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o104_755, 1000, 100));
    assert_eq!((attr.size, attr.nlink), (7, 2));
    assert_eq!((attr.mtime.cast_signed(), attr.mtimensec), (-1, 5));
    let null = lookup(&server, 1, "null").unwrap().attr;
    assert_eq!((null.mode, null.rdev, null.nlink), (0o020_666, 0x0103, 1));
    let getattr = GetattrIn::new_zeroed();
    let root = call(&server, opcode::GETATTR, 1, getattr.as_bytes()).unwrap();
    let root = AttrOut::read_from_bytes(&root).unwrap().attr;
    assert_eq!((root.ino, root.nlink), (1, 3));
    assert_eq!(dir.attr.nlink, 2);
}

#[test]
fn a_name_that_is_not_there_is_absent_for_good() {
    let server = serve(sample(), contents());
    let absent = lookup(&server, 1, "nothing").unwrap();
    assert_eq!((absent.nodeid, absent.entry_valid > 1 << 30), (0, true));
    let file = lookup(&server, 1, "dir").and_then(|dir| lookup(&server, dir.nodeid, "suid"));
    let below = lookup(&server, file.unwrap().nodeid, "x");
    assert_eq!(below.unwrap_err(), Errno::NOTDIR);
}

#[test]
fn content_is_the_extent_and_nothing_beside_it() {
    let server = serve(sample(), contents());
    let text = |offset, size| read(&server, 3, offset, size).unwrap();
    assert_eq!(text(0, 4096 - 1), b"content");
    assert_eq!(text(3, 2), b"te");
    assert_eq!(text(7, 10), b"");
    assert_eq!(text(u64::MAX, 10), b"");
    assert_eq!(read(&server, 1, 0, 1), Err(Errno::ISDIR));
    assert_eq!(read(&server, 4, 0, 1), Err(Errno::INVAL));
    assert_eq!(read(&server, 5, 0, 1), Err(Errno::INVAL));
    assert_eq!(read(&server, 3, 0, u32::MAX), Err(Errno::INVAL));
}

#[test]
fn a_content_that_was_cut_short_is_an_error_and_not_an_end() {
    let contents = contents();
    File::from(contents[0].try_clone().unwrap())
        .set_len(4)
        .unwrap();
    let server = serve(sample(), contents);
    assert_eq!(read(&server, 3, 0, 100), Err(Errno::IO));
}

#[test]
fn a_listing_goes_on_where_it_ended() {
    let server = serve(sample(), contents());
    let mut names = Vec::new();
    let mut read = ReadIn::new_zeroed();
    // Room for one entry of up to eight bytes at a time.
    read.size = (size_of::<Dirent>() + 8) as u32;
    loop {
        let listed = call(&server, opcode::READDIR, 1, read.as_bytes()).unwrap();
        let Ok((entry, name)) = Dirent::read_from_prefix(&listed) else {
            break;
        };
        let name = String::from_utf8(name[..entry.namelen as usize].to_vec()).unwrap();
        names.push((name, entry.ino, entry.kind));
        read.offset = entry.off;
    }
    let expected = [
        (".", 1, 4),
        ("..", 1, 4),
        ("dir", 2, 4),
        ("link", 4, 10),
        ("null", 5, 2),
    ];
    let expected = expected.map(|(name, ino, kind)| (name.to_owned(), ino, kind));
    assert_eq!(names, expected);
    assert_eq!(read.offset, LISTING_END);
    read.size = 8;
    read.offset = 0;
    let none = call(&server, opcode::READDIR, 1, read.as_bytes());
    assert_eq!(none, Err(Errno::INVAL));
}

#[test]
fn attributes_of_the_extended_kind_have_names_and_values() {
    let server = serve(sample(), contents());
    let asked = |size, name: &[u8]| {
        let mut get = GetxattrIn::new_zeroed();
        get.size = size;
        [get.as_bytes(), name].concat()
    };
    let value = |node, size, name| call(&server, opcode::GETXATTR, node, &asked(size, name));
    assert_eq!(value(3, 64, b"user.a\0").unwrap(), b"value");
    assert_eq!(value(3, 2, b"user.a\0"), Err(Errno::RANGE));
    assert_eq!(value(3, 64, b"user.b\0"), Err(Errno::NODATA));
    assert_eq!(value(1, 64, b"user.a\0"), Err(Errno::NODATA));
    let names = call(&server, opcode::LISTXATTR, 3, &asked(64, b"")).unwrap();
    assert_eq!(names, b"user.a\0");
}

#[test]
fn a_tree_without_attributes_is_asked_once() {
    let mut nodes = sample();
    nodes[2].attributes.clear();
    let server = serve(nodes, contents());
    for opcode in [opcode::GETXATTR, opcode::LISTXATTR] {
        let body = GetxattrIn::new_zeroed();
        assert_eq!(call(&server, opcode, 3, body.as_bytes()), Err(Errno::NOSYS));
    }
}

#[test]
fn whatever_the_guest_asks_is_answered() {
    let server = serve(sample(), contents());
    // DESTROY ends the session, which is another test's.
    for opcode in (0..64).filter(|opcode| *opcode != opcode::DESTROY) {
        for node in [0, 1, 3, 4, 5, 6, u64::MAX] {
            for body in [&[][..], &[0; 8], &[0xff; 64], &[b'a'; 300]] {
                let _ = call(&server, opcode, node, body);
            }
        }
    }
    assert_eq!(call(&server, opcode::MKDIR, 1, &[0; 16]), Err(Errno::ROFS));
    assert_eq!(call(&server, opcode::WRITE, 3, &[0; 64]), Err(Errno::ROFS));
    server.reset();
    assert_eq!(lookup(&server, 1, "dir").unwrap_err(), Errno::IO);
}

#[test]
fn what_is_no_tree_is_refused() {
    let refused = |nodes: Vec<Node>| Catalog::new(nodes, contents()).unwrap_err().to_string();
    let leaf = || node(0o010_644, Body::Special);
    assert_eq!(refused(vec![]), "a tree without a root");
    assert_eq!(refused(vec![leaf()]), "the root of a tree is no directory");
    for (entries, words) in [
        (
            &[("b", 1), ("a", 1)][..],
            "names of node 0 of a tree are out of order",
        ),
        (
            &[("a", 1), ("a", 1)],
            "names of node 0 of a tree are out of order",
        ),
        (&[("..", 1)], "a name of node 0 of a tree is none"),
        (&[("a/b", 1)], "a name of node 0 of a tree is none"),
        (&[("a", 0)], "a name of node 0 of a tree is none"),
        (&[("a", 2)], "a name of node 0 of a tree is none"),
    ] {
        assert_eq!(refused(vec![directory(entries), leaf()]), words);
    }
    let twice = vec![directory(&[("a", 1), ("b", 1)]), directory(&[])];
    assert_eq!(refused(twice), "directory 1 of a tree has two names");
    for wrong in [
        node(0o040_755, Body::Special),
        node(0o100_644, Body::Special),
        node(0o020_644, extent(0, 1)),
        node(0o100_644, extent(u64::MAX, 1)),
        node(0o100_644, extent(1 << 62, 1 << 62)),
        node(0o100_644, Body::Link((*b"x").into())),
    ] {
        let words = refused(vec![directory(&[("a", 1)]), wrong]);
        assert_eq!(words, "node 1 of a tree is not whole");
    }
}

#[test]
fn names_that_are_not_kept_are_not_there() {
    let mut catalog = Catalog::new(sample(), contents()).unwrap();
    catalog.retain(1, |name| name == b"suid");
    catalog.retain(0, |name| name != b"dir");
    catalog.retain(2, |_| false);
    let server = server::Server::new(Arc::new(catalog));
    let init = InitIn {
        major: 7,
        minor: 41,
        max_readahead: 0,
        flags: 0,
    };
    call(&server, opcode::INIT, 0, init.as_bytes()).unwrap();
    assert_eq!(lookup(&server, 1, "dir").unwrap().nodeid, 0);
    assert_eq!(lookup(&server, 2, "hard").unwrap().nodeid, 0);
    assert_eq!(lookup(&server, 2, "suid").unwrap().attr.nlink, 1);
    let root = call(
        &server,
        opcode::GETATTR,
        1,
        GetattrIn::new_zeroed().as_bytes(),
    )
    .unwrap();
    assert_eq!(AttrOut::read_from_bytes(&root).unwrap().attr.nlink, 2);
}
