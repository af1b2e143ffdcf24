//! Listings: READDIR and READDIRPLUS.
//!
//! An entry's `off` is the host directory's own position after it, which stays good while the
//! directory changes; that of the last is [`LISTING_END`]. The root of a filtered share lists its filter
//! instead, and positions count entries. READDIRPLUS looks every name up on the way, which is what makes a walk cheap.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, RawDir, SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;
use zerocopy::FromZeros;

use super::filter::Filter;
use super::host;
use super::lock;
use super::name::Name;
use super::nodes::Kind;
use super::reply::{Failure, Last, Listed, Sink};
use super::request::Request;
use super::server::Server;
use super::session::READ_BYTES_MAX;
use super::wire::{EntryOut, LISTING_END, ReadIn, opcode};

/// Bytes of host entries fetched at a time.
const FETCH_BYTES_MAX: usize = 8192;

/// Room for at least one host entry, whatever its name.
const FETCH_BYTES_MIN: usize = 2048;

/// Bytes of a READDIRPLUS entry for each byte of the host's entry for it, about. What is fetched
/// beyond the reply's end is fetched again by the next request.
const PLUS_FACTOR: usize = 4;

impl Server {
    pub(super) fn readdir(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let arguments: ReadIn = request.arguments()?;
        let node = request.header.nodeid;
        self.must_be(Kind::Directory, node)?;
        if arguments.offset == LISTING_END {
            return Ok(());
        }
        let mut listing = Listing {
            server: self,
            node,
            plus: request.header.opcode == opcode::READDIRPLUS,
            // A listing may be shorter than asked for.
            limit_bytes: reply
                .room()
                .min(arguments.size.min(READ_BYTES_MAX) as usize),
            reply,
            last: None,
        };
        let more = match self.content.root_filter(node) {
            Some(filter) => listing.of_filter(filter, arguments.offset)?,
            None => listing.of_host(arguments.fh, arguments.offset)?,
        };
        match listing.last {
            // An empty reply would be the end of the directory.
            None if more => Err(Errno::INVAL.into()),
            Some(last) if !more => Ok(reply.end_listing(last)?),
            _ => Ok(()),
        }
    }
}

/// A listing on its way into a reply.
struct Listing<'a> {
    server: &'a Server,
    /// The directory.
    node: u64,
    plus: bool,
    limit_bytes: usize,
    reply: &'a mut dyn Sink,
    /// The last entry so far.
    last: Option<Last>,
}

/// What a listing says of a name.
struct Entry<'a> {
    name: &'a [u8],
    ino: u64,
    kind: FileType,
    /// Where the listing goes on.
    next: u64,
}

impl Listing<'_> {
    /// Lists a directory of the host from `offset` on; whether entries are left.
    fn of_host(&mut self, handle: u64, offset: u64) -> Result<bool, Failure> {
        let open = self.server.opened(self.node, handle)?;
        let (dev, root_dev) = (open.identity.dev, self.server.tree.root_dev());
        let root_ino = fstat(self.server.tree.root())?.st_ino;
        let at_root = self.node == super::wire::ROOT_ID;
        let wanted = if self.plus {
            self.limit_bytes / PLUS_FACTOR
        } else {
            self.limit_bytes
        };
        let mut buffer = [MaybeUninit::uninit(); FETCH_BYTES_MAX];
        let fetch = wanted.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        let buffer = buffer.get_mut(..fetch).unwrap_or_default();

        let _position = lock(&open.position);
        seek(&open.fd, SeekFrom::Start(offset))?;
        let mut entries = RawDir::new(&open.fd, buffer);
        // Ends when the reply is full at the latest: each entry takes some of it, or is skipped
        // and read once.
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if self.reply.body_bytes() == 0 => return Err(error.into()),
                // The guest has lookups on what is listed so far, so it must hear of it first.
                Err(_) => return Ok(true),
            };
            let name = entry.file_name().to_bytes();
            // What is above the root is no affair of the guest.
            let above = at_root && name == b"..";
            let ino = if above { root_ino } else { entry.ino() };
            let entry = Entry {
                name,
                ino: host::shown_ino(ino, dev, root_dev),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            };
            if !self.add(open.fd.as_fd(), entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lists the root of a filtered share from entry `offset` on; whether entries are left.
    fn of_filter(&mut self, filter: &Filter, offset: u64) -> Result<bool, Failure> {
        let root = self.server.tree.root().clone();
        let own: [&[u8]; 2] = [b".", b".."];
        let ino = fstat(&root)?.st_ino;
        let shown = filter.names();
        let names = own.into_iter().chain(shown.iter().map(|name| &**name));
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, name) in (1..).zip(names).skip(skip) {
            let mut entry = Entry {
                name,
                ino,
                kind: FileType::Directory,
                next,
            };
            if next > own.len() as u64 {
                // A path of the closure that the host does not have is not listed either.
                let Ok(stat) = host::stat_name(&root, name) else {
                    continue;
                };
                entry.ino = self.server.attributes(&stat).ino;
                entry.kind = FileType::from_raw_mode(stat.st_mode);
            }
            if !self.add(root.as_fd(), entry)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds an entry; false when it does not fit.
    fn add(&mut self, directory: BorrowedFd<'_>, mut entry: Entry<'_>) -> Result<bool, Failure> {
        // Before a lookup is counted that the guest would not hear of.
        let unknown = EntryOut::new_zeroed();
        if !self.fits(&entry.listed(self.plus.then_some(&unknown))) {
            return Ok(false);
        }
        if !self.plus {
            return self.put(&entry.listed(None));
        }
        let looked_up = match Name::new(entry.name) {
            Ok(name) => match host::stat_name(directory, entry.name) {
                Ok(stat) => self.look_up(name, &stat, &mut entry),
                // Removed since it was listed.
                Err(Errno::NOENT) => return Ok(true),
                Err(_) => unknown,
            },
            // `.` and `..`, on which the guest takes no lookup.
            Err(_) => unknown,
        };
        self.put(&entry.listed(Some(&looked_up)))
    }

    /// The node of an entry. Without one, as when the table is full, the guest gets the name
    /// alone and looks it up if it wants to (`fuse_direntplus_link`).
    fn look_up(&self, name: Name<'_>, stat: &Stat, entry: &mut Entry<'_>) -> EntryOut {
        entry.kind = FileType::from_raw_mode(stat.st_mode);
        match self.server.enter(self.node, name, stat) {
            Ok(found) => {
                entry.ino = found.attr.ino;
                found
            }
            Err(_) => EntryOut::new_zeroed(),
        }
    }

    fn fits(&self, entry: &Listed<'_>) -> bool {
        entry.bytes() <= self.limit_bytes.saturating_sub(self.reply.body_bytes())
    }

    fn put(&mut self, entry: &Listed<'_>) -> Result<bool, Failure> {
        let put = self.reply.put_listed(entry, self.limit_bytes)?;
        self.last = put.or(self.last);
        Ok(put.is_some())
    }
}

impl<'a> Entry<'a> {
    fn listed<'b>(&'b self, looked_up: Option<&'b EntryOut>) -> Listed<'b>
    where
        'a: 'b,
    {
        Listed {
            looked_up,
            name: self.name,
            ino: self.ino,
            mode: self.kind.as_raw_mode(),
            next: self.next,
        }
    }
}
