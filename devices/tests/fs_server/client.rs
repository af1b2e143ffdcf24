//! A FUSE client: requests as bytes, replies checked before a test sees them.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::virtio::fs::wire::{
    Attr, AttrOut, Dirent, EntryOut, FOPEN_KEEP_CACHE, Flags, ForgetIn, GETATTR_FH, GetattrIn,
    InHeader, InitIn, InitInExt, InitOut, OpenIn, OpenOut, OutHeader, ROOT_ID, ReadIn, ReleaseIn,
    opcode,
};
use devices::virtio::fs::{Content, Filter, Serve, Server, Sink, Source};
use devices::virtio::region::Region;
use devices::virtio::{Fault, Position};
use rustix::io::{Errno, ReadWriteFlags};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Room for any reply.
pub const ROOM: usize = 1 << 20;

/// Bytes of a request that the device copies.
const COPIED: usize = 16 << 10;

/// A reply's body, or why there is none.
pub type Answer = Result<Vec<u8>, Errno>;

/// A guest with one share.
pub struct Client {
    /// The share's server.
    pub server: Server,
    unique: AtomicU64,
}

/// The content of a folder that changes.
pub fn changing() -> Content {
    Content::Changing {
        timeout: Content::CHANGING_TIMEOUT,
        filter: None,
    }
}

/// The content of a whole store.
pub fn immutable() -> Content {
    Content::Immutable { filter: None }
}

/// The content of a store of which only `names` are shown.
pub fn closure(root: &Path, names: &[&str]) -> Content {
    let paths = names.iter().map(|name| root.join(name));
    Content::Immutable {
        filter: Some(Filter::of_paths(root, paths).unwrap()),
    }
}

/// What Linux 6.12 offers, as far as it matters, and some that no one knows.
pub const OFFERED: u64 = !0;

impl Client {
    /// A guest that has mounted the share.
    pub fn mount(root: &Path, content: Content) -> Self {
        let client = Self::attach(root, content);
        client.init(7, 41, OFFERED).unwrap();
        client
    }

    /// A guest that has mounted the share, and has a DAX window.
    pub fn mount_with_window(root: &Path, content: Content, window: &Arc<Region>) -> Self {
        let mut client = Self::attach(root, content);
        client.server = client.server.with_window(window.clone()).unwrap();
        client.init(7, 41, OFFERED).unwrap();
        client
    }

    /// A guest that has said nothing yet.
    pub fn attach(root: &Path, content: Content) -> Self {
        Self {
            server: Server::open(root, content, &Arc::default()).unwrap(),
            unique: AtomicU64::new(1),
        }
    }

    /// Sends a request with a correct header.
    pub fn call(&self, opcode: u32, node: u64, body: &[u8]) -> Answer {
        self.call_with_room(opcode, node, body, ROOM)
    }

    /// Sends a request with a correct header, and leaves `room` bytes for the body of its reply.
    pub fn call_with_room(&self, opcode: u32, node: u64, body: &[u8], room: usize) -> Answer {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let mut request = header(opcode, unique, node, body.len()).as_bytes().to_vec();
        request.extend(body);
        let (header, body) = self.send(&request, room).expect("a reply");
        assert_eq!(header.unique, unique);
        match header.error {
            0 => Ok(body),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    /// Sends any bytes; none where there is no reply. A reply is well formed or the test fails.
    pub fn send(&self, request: &[u8], room: usize) -> Option<(OutHeader, Vec<u8>)> {
        let mut reply = Reply::new(room);
        let beginning = &request[..request.len().min(COPIED)];
        let mut source = Given(request);
        let handled = self.server.handle(beginning, &mut source, &mut reply);
        let bytes = handled.unwrap();
        let Some(header) = reply.header else {
            assert_eq!(bytes, 0);
            return None;
        };
        assert_eq!(header.len as usize, bytes);
        assert!((-4095..=0).contains(&header.error), "{header:?}");
        if header.error == 0 {
            assert_eq!(bytes, size_of::<OutHeader>() + reply.body.len());
        } else {
            assert_eq!(bytes, size_of::<OutHeader>());
        }
        Some((header, reply.body))
    }

    /// INIT.
    pub fn init(&self, major: u32, minor: u32, flags: u64) -> Result<InitOut, Errno> {
        let init = InitIn {
            major,
            minor,
            max_readahead: 128 << 10,
            flags: flags as u32,
        };
        let mut extension = InitInExt::new_zeroed();
        extension.flags2 = (flags >> 32) as u32;
        let body = [init.as_bytes(), extension.as_bytes()].concat();
        self.call(opcode::INIT, 0, &body).map(|body| object(&body))
    }

    /// LOOKUP; an entry of node 0 is a name that is known to be absent.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<EntryOut, Errno> {
        let body = [name, b"\0"].concat();
        self.call(opcode::LOOKUP, parent, &body)
            .map(|body| object(&body))
    }

    /// The node at a path below the root.
    pub fn node(&self, path: &str) -> u64 {
        path.split('/').fold(ROOT_ID, |parent, name| {
            let entry = self.lookup(parent, name.as_bytes()).unwrap();
            assert_ne!(entry.nodeid, 0, "{path} is absent");
            entry.nodeid
        })
    }

    /// GETATTR.
    pub fn getattr(&self, node: u64) -> Result<Attr, Errno> {
        self.getattr_out(node).map(|out| out.attr)
    }

    /// GETATTR with its timeout.
    pub fn getattr_out(&self, node: u64) -> Result<AttrOut, Errno> {
        let body = GetattrIn::new_zeroed();
        self.call(opcode::GETATTR, node, body.as_bytes())
            .map(|body| object(&body))
    }

    /// GETATTR of an open file.
    pub fn getattr_of_open(&self, node: u64, fh: u64) -> Result<Attr, Errno> {
        let body = GetattrIn {
            getattr_flags: GETATTR_FH,
            dummy: 0,
            fh,
        };
        self.call(opcode::GETATTR, node, body.as_bytes())
            .map(|body| object::<AttrOut>(&body).attr)
    }

    /// FORGET.
    pub fn forget(&self, node: u64, nlookup: u64) {
        let body = ForgetIn { nlookup };
        let mut request = header(opcode::FORGET, 9, node, 8).as_bytes().to_vec();
        request.extend(body.as_bytes());
        assert_eq!(self.send(&request, 0), None);
    }

    /// READLINK.
    pub fn readlink(&self, node: u64) -> Answer {
        self.call(opcode::READLINK, node, &[])
    }

    /// OPEN.
    pub fn open(&self, node: u64, flags: i32) -> Result<OpenOut, Errno> {
        self.open_as(opcode::OPEN, node, flags)
    }

    /// OPENDIR.
    pub fn opendir(&self, node: u64) -> Result<OpenOut, Errno> {
        self.open_as(opcode::OPENDIR, node, libc::O_DIRECTORY)
    }

    fn open_as(&self, opcode: u32, node: u64, flags: i32) -> Result<OpenOut, Errno> {
        let body = OpenIn {
            flags: flags.cast_unsigned(),
            open_flags: 0,
        };
        self.call(opcode, node, body.as_bytes())
            .map(|body| object(&body))
    }

    /// Opens a file that changes, and says whether what is cached of it may be kept.
    pub fn reopen_keeps_cache(&self, node: u64) -> bool {
        let opened = self.open(node, libc::O_RDONLY).unwrap();
        self.release(node, opened.fh).unwrap();
        opened.open_flags & FOPEN_KEEP_CACHE != 0
    }

    /// RELEASE.
    pub fn release(&self, node: u64, fh: u64) -> Result<(), Errno> {
        let mut body = ReleaseIn::new_zeroed();
        body.fh = fh;
        self.call(opcode::RELEASE, node, body.as_bytes()).map(drop)
    }

    /// READ with handle 0, as a guest does that need not open.
    pub fn read(&self, node: u64, offset: u64, size: u32) -> Answer {
        self.read_open(node, 0, offset, size)
    }

    /// READ.
    pub fn read_open(&self, node: u64, fh: u64, offset: u64, size: u32) -> Answer {
        self.call(opcode::READ, node, read_in(fh, offset, size).as_bytes())
    }

    /// A whole file.
    pub fn read_all(&self, node: u64, fh: u64) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let offset = content.len() as u64;
            let piece = self.read_open(node, fh, offset, 64 << 10).unwrap();
            if piece.is_empty() {
                return content;
            }
            content.extend(piece);
        }
    }

    /// READDIR or READDIRPLUS.
    pub fn readdir(&self, opcode: u32, node: u64, fh: u64, offset: u64, size: u32) -> Answer {
        self.call(opcode, node, read_in(fh, offset, size).as_bytes())
    }

    /// A whole listing, by replies of `size` bytes.
    pub fn list(&self, opcode: u32, node: u64, fh: u64, size: u32) -> Vec<Listed> {
        let mut entries: Vec<Listed> = Vec::new();
        loop {
            let offset = entries.last().map_or(0, |entry| entry.dirent.off);
            let reply = self.readdir(opcode, node, fh, offset, size).unwrap();
            assert!(reply.len() <= size as usize);
            if reply.is_empty() {
                return entries;
            }
            entries.extend(parse_listing(opcode, &reply));
        }
    }
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its node, in a READDIRPLUS.
    pub entry: Option<EntryOut>,
    /// Its header.
    pub dirent: Dirent,
    /// Its name.
    pub name: Vec<u8>,
}

/// Takes a listing apart, down to the last byte.
pub fn parse_listing(opcode: u32, mut bytes: &[u8]) -> Vec<Listed> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let mut entry = None;
        if opcode == opcode::READDIRPLUS {
            let (looked_up, rest) = EntryOut::read_from_prefix(bytes).unwrap();
            (entry, bytes) = (Some(looked_up), rest);
        }
        let (dirent, rest) = Dirent::read_from_prefix(bytes).unwrap();
        let (name, rest) = rest.split_at(dirent.namelen as usize);
        let padding = name.len().next_multiple_of(8) - name.len();
        let (zeros, rest) = rest.split_at(padding);
        assert!(zeros.iter().all(|byte| *byte == 0));
        bytes = rest;
        entries.push(Listed {
            entry,
            dirent,
            name: name.to_vec(),
        });
    }
    entries
}

/// A correct header.
pub fn header(opcode: u32, unique: u64, nodeid: u64, body_bytes: usize) -> InHeader {
    let mut header = InHeader::new_zeroed();
    header.len = (size_of::<InHeader>() + body_bytes) as u32;
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = nodeid;
    header
}

/// The arguments of READ and its like.
pub fn read_in(fh: u64, offset: u64, size: u32) -> ReadIn {
    let mut read = ReadIn::new_zeroed();
    (read.fh, read.offset, read.size) = (fh, offset, size);
    read
}

/// A reply's body, which is one structure.
pub fn object<T: FromBytes + KnownLayout + Immutable>(body: &[u8]) -> T {
    T::read_from_bytes(body).expect("a reply of the right size")
}

/// The flags of an answer to INIT.
pub fn flags(answer: &InitOut) -> Flags {
    let bits = u64::from(answer.flags2) << 32 | u64::from(answer.flags);
    Flags::from_bits(bits).expect("only known flags")
}

/// A request in a slice.
pub struct Given<'a>(pub &'a [u8]);

impl Source for Given<'_> {
    fn total_bytes(&self) -> usize {
        self.0.len()
    }

    fn read(&mut self, skip: usize, to: &mut [u8]) -> Result<usize, Fault> {
        let bytes = (self.0.len() - skip).min(to.len());
        to[..bytes].copy_from_slice(&self.0[skip..][..bytes]);
        Ok(bytes)
    }

    fn write_to(
        &mut self,
        skip: usize,
        limit: usize,
        file: BorrowedFd<'_>,
        to: Position,
    ) -> io::Result<usize> {
        // Short writes, as any file system may make them.
        let bytes = &self.0[skip..][..limit.min(5000)];
        Ok(match to {
            Position::At(offset) => rustix::io::pwrite(file, bytes, offset)?,
            Position::End => {
                let bytes = [io::IoSlice::new(bytes)];
                rustix::io::pwritev2(file, &bytes, 0, ReadWriteFlags::APPEND)?
            }
        })
    }
}

/// A reply in a vector.
struct Reply {
    body: Vec<u8>,
    room: usize,
    header: Option<OutHeader>,
}

impl Reply {
    fn new(room: usize) -> Self {
        Self {
            body: Vec::new(),
            room,
            header: None,
        }
    }
}

impl Sink for Reply {
    fn room(&self) -> usize {
        self.room - self.body.len()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        assert!(bytes.len() <= self.room(), "the server checks that it fits");
        self.body.extend(bytes);
        Ok(())
    }

    fn put_over(&mut self, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        self.body[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn put_file(&mut self, file: BorrowedFd<'_>, offset: u64, limit: usize) -> io::Result<usize> {
        // Short reads, as any file system may give them.
        let mut buffer = vec![0; limit.min(self.room()).min(5000)];
        let bytes = rustix::io::pread(file, &mut buffer, offset)?;
        self.body.extend(&buffer[..bytes]);
        Ok(bytes)
    }

    fn body_bytes(&self) -> usize {
        self.body.len()
    }

    fn finish(&mut self, header: &OutHeader) -> Result<usize, Fault> {
        assert_eq!(self.header.replace(*header), None);
        Ok(header.len as usize)
    }
}
