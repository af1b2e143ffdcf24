//! The server of a [`Catalog`]: every answer is in memory but for content, which is a part of a
//! file that has been open since before the guest ran.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use zerocopy::FromZeros;

use super::super::super::Fault;
use super::super::content::{Content, FOREVER};
use super::super::counters::Counters;
use super::super::exchange::{self, Serve};
use super::super::filter::Filter;
use super::super::reply::{Failure, Listed, Sink, Source};
use super::super::request::Request;
use super::super::session::{READ_BYTES_MAX, Session};
use super::super::wire::{
    Attr, AttrOut, EntryOut, FOPEN_KEEP_CACHE, Flags, GetxattrIn, LISTING_END, OpenOut, ROOT_ID,
    ReadIn, StatfsOut, opcode,
};
use super::super::xattr;
use super::{Body, Catalog, Node, id, index};

/// Block of `statfs`, and what a read is best done by.
const BLOCK_BYTES: u32 = 4096;

/// Serves one tree.
pub struct Server {
    catalog: Arc<Catalog>,
    session: Session,
    counters: Arc<Counters>,
}

impl Server {
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            session: Session::default(),
            counters: Arc::default(),
        }
    }

    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    fn serve(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let wanted = request.header.opcode;
        if wanted == opcode::INIT {
            // Of a closure nothing changes either.
            let filter = Some(Filter::default());
            let flags = Content::Immutable { filter }.flags();
            return self.session.answer(request, reply, flags, || {});
        }
        let Some(flags) = self.session.flags() else {
            return Err(Errno::IO.into());
        };
        match wanted {
            opcode::LOOKUP => self.lookup(request, reply),
            // Neither a lookup nor an open file is counted: a node is there as long as the tree.
            opcode::FORGET
            | opcode::BATCH_FORGET
            | opcode::INTERRUPT
            | opcode::RELEASE
            | opcode::RELEASEDIR => Ok(()),
            opcode::GETATTR => self.getattr(request, reply),
            opcode::READLINK => self.readlink(request, reply),
            opcode::OPEN => open(flags.contains(Flags::NO_OPEN_SUPPORT), reply),
            opcode::OPENDIR => open(flags.contains(Flags::NO_OPENDIR_SUPPORT), reply),
            opcode::READ => self.read(request, reply),
            opcode::READDIR | opcode::READDIRPLUS => self.readdir(request, reply),
            opcode::STATFS => self.statfs(reply),
            // Without any, the guest is to ask once: it would before each start of a program.
            opcode::GETXATTR if self.catalog.has_attributes => self.getxattr(request, reply),
            opcode::LISTXATTR if self.catalog.has_attributes => self.listxattr(request, reply),
            opcode::DESTROY => {
                self.session.end();
                Ok(())
            }
            other => exchange::refuse_change(other),
        }
    }

    fn node(&self, request: &Request<'_>) -> Result<&Node, Errno> {
        let node = self.catalog.node(request.header.nodeid);
        node.ok_or(Errno::STALE)
    }

    fn lookup(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let name = request.name()?;
        let Body::Directory(entries) = &self.node(request)?.body else {
            return Err(Errno::NOTDIR.into());
        };
        let found = entries.binary_search_by(|(is, _)| (**is).cmp(name.bytes()));
        let found = found.ok().and_then(|at| entries.get(at));
        let entry = match found {
            Some((_, child)) => self.entry(*child)?,
            None => EntryOut {
                entry_valid: FOREVER.as_secs(),
                ..EntryOut::new_zeroed()
            },
        };
        reply.put_object(&entry)
    }

    fn entry(&self, child: u32) -> Result<EntryOut, Errno> {
        Ok(EntryOut {
            nodeid: id(child),
            generation: 0,
            entry_valid: FOREVER.as_secs(),
            attr_valid: FOREVER.as_secs(),
            entry_valid_nsec: 0,
            attr_valid_nsec: 0,
            attr: self.attributes(id(child))?,
        })
    }

    fn getattr(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        reply.put_object(&AttrOut {
            attr_valid: FOREVER.as_secs(),
            attr_valid_nsec: 0,
            dummy: 0,
            attr: self.attributes(request.header.nodeid)?,
        })
    }

    fn attributes(&self, id: u64) -> Result<Attr, Errno> {
        let node = self.catalog.node(id).ok_or(Errno::STALE)?;
        let links = index(id).and_then(|index| self.catalog.links.get(index));
        let size = node.body.bytes();
        let (seconds, nanoseconds) = node.modified;
        let seconds = seconds.cast_unsigned();
        Ok(Attr {
            ino: id,
            size,
            blocks: size.div_ceil(512),
            atime: seconds,
            mtime: seconds,
            ctime: seconds,
            atimensec: nanoseconds,
            mtimensec: nanoseconds,
            ctimensec: nanoseconds,
            mode: node.mode,
            nlink: links.copied().unwrap_or(1),
            uid: node.uid,
            gid: node.gid,
            rdev: node.rdev,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    fn readlink(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let Body::Link(target) = &self.node(request)?.body else {
            return Err(Errno::INVAL.into());
        };
        reply.require(target.len())?;
        Ok(reply.put(target)?)
    }

    fn read(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let arguments: ReadIn = request.arguments()?;
        if arguments.size > READ_BYTES_MAX {
            return Err(Errno::INVAL.into());
        }
        let extent = match &self.node(request)?.body {
            Body::File(extent) => extent,
            Body::Directory(_) => return Err(Errno::ISDIR.into()),
            _ => return Err(Errno::INVAL.into()),
        };
        let left = extent.bytes.saturating_sub(arguments.offset);
        // At most what was asked for, so that it fits.
        let bytes = left.min(arguments.size.into()) as usize;
        reply.require(bytes)?;
        let content = self.catalog.content(extent).ok_or(Errno::IO)?;
        // Within the extent, whose end is a number.
        let begin = extent.offset.saturating_add(arguments.offset);
        fill(content, begin, bytes, reply)
    }

    fn readdir(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let arguments: ReadIn = request.arguments()?;
        let Body::Directory(entries) = &self.node(request)?.body else {
            return Err(Errno::NOTDIR.into());
        };
        if arguments.offset == LISTING_END {
            return Ok(());
        }
        let plus = request.header.opcode == opcode::READDIRPLUS;
        let limit_bytes = reply
            .room()
            .min(arguments.size.min(READ_BYTES_MAX) as usize);
        let own: [(&[u8], u64); 2] = [
            (b".", request.header.nodeid),
            (b"..", self.parent(request.header.nodeid)),
        ];
        let entries = entries.iter().map(|(name, child)| (&**name, id(*child)));
        let skip = usize::try_from(arguments.offset).unwrap_or(usize::MAX);
        let mut last = None;
        for (next, (name, node)) in (1..).zip(own.into_iter().chain(entries)).skip(skip) {
            // On `.` and `..` the guest takes no lookup.
            let looked_up = match index(node).map(u32::try_from) {
                Some(Ok(child)) if next > own.len() as u64 => self.entry(child)?,
                _ => EntryOut::new_zeroed(),
            };
            let listed = Listed {
                looked_up: plus.then_some(&looked_up),
                name,
                ino: node,
                mode: self.catalog.node(node).map_or(0, |node| node.mode),
                next,
            };
            match reply.put_listed(&listed, limit_bytes)? {
                Some(put) => last = Some(put),
                // An empty reply would be the end of the directory.
                None if last.is_none() => return Err(Errno::INVAL.into()),
                None => return Ok(()),
            }
        }
        Ok(last.map_or(Ok(()), |last| reply.end_listing(last))?)
    }

    fn parent(&self, of: u64) -> u64 {
        let parent = index(of).and_then(|index| self.catalog.parents.get(index));
        // The root's is the root.
        parent.copied().unwrap_or_default().max(ROOT_ID)
    }

    fn statfs(&self, reply: &mut dyn Sink) -> Result<(), Failure> {
        let bytes = (self.catalog.nodes.iter())
            .map(|node| node.body.bytes())
            .fold(0, u64::saturating_add);
        reply.put_object(&StatfsOut {
            blocks: bytes.div_ceil(BLOCK_BYTES.into()),
            bfree: 0,
            bavail: 0,
            files: self.catalog.nodes.len() as u64,
            ffree: 0,
            bsize: BLOCK_BYTES,
            namelen: 255,
            frsize: BLOCK_BYTES,
            padding: 0,
            spare: [0; 6],
        })
    }

    fn getxattr(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let GetxattrIn { size, .. } = request.arguments()?;
        let name = request.first_after::<GetxattrIn>()?;
        let attributes = &self.node(request)?.attributes;
        let found = attributes.iter().find(|(is, _)| **is == *name);
        let (_, value) = found.ok_or(Errno::NODATA)?;
        xattr::answer(value, size, reply)
    }

    fn listxattr(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let GetxattrIn { size, .. } = request.arguments()?;
        let mut names = Vec::new();
        for (name, _) in &self.node(request)?.attributes {
            names.extend_from_slice(name);
            names.push(0);
        }
        xattr::answer(&names, size, reply)
    }
}

impl Serve for Server {
    fn handle(
        &self,
        request: &[u8],
        source: &mut dyn Source,
        reply: &mut dyn Sink,
    ) -> Result<usize, Fault> {
        exchange::answer(
            &self.counters,
            request,
            source,
            reply,
            |request, _, reply| self.serve(request, reply),
        )
    }

    fn reset(&self) {
        self.session.end();
    }
}

impl Body {
    /// What `st_size` is.
    fn bytes(&self) -> u64 {
        match self {
            Self::File(extent) => extent.bytes,
            Self::Link(target) => target.len() as u64,
            Self::Directory(_) | Self::Special => 0,
        }
    }
}

fn open(unasked: bool, reply: &mut dyn Sink) -> Result<(), Failure> {
    if unasked {
        // Linux opens by itself from now on, and keeps what it has cached.
        return Err(Errno::NOSYS.into());
    }
    reply.put_object(&OpenOut {
        fh: 0,
        open_flags: FOPEN_KEEP_CACHE,
        backing_id: 0,
    })
}

/// Puts `bytes` of a file into a reply. To the guest fewer are the end of its file, which is not
/// where the host's file ends too early: that one was cut short since.
fn fill(
    content: BorrowedFd<'_>,
    begin: u64,
    bytes: usize,
    reply: &mut dyn Sink,
) -> Result<(), Failure> {
    while reply.body_bytes() < bytes {
        let at = begin.saturating_add(reply.body_bytes() as u64);
        let left = bytes.saturating_sub(reply.body_bytes());
        match reply.put_file(content, at, left) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
        }
    }
    Ok(())
}
