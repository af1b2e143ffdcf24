//! New files: CREATE, MKNOD, MKDIR, SYMLINK, LINK.
//!
//! Nothing that the guest makes takes effect on the host beyond being there: device nodes are
//! refused with `EPERM`, which any user but root is told anyway (and the guest mounts shares
//! `nodev`); set-uid and set-group bits are left out (see [`host::permissions`]). A symbolic link
//! may say anything: only the guest follows it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, chownat, fstat, linkat, mkdirat, mknodat, symlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use zerocopy::IntoBytes;

use super::files::{access, open_out};
use super::handles::Open;
use super::host;
use super::lock;
use super::name::Name;
use super::nodes::Kind;
use super::owners::Owners;
use super::reply::{Failure, Sink};
use super::request::Request;
use super::server::Server;
use super::tree::TARGET_BYTES_MAX;
use super::wire::{CreateIn, EntryOut, InHeader, LinkIn, MkdirIn, MknodIn, OpenOut};

/// Permissions that mkdir(2) takes.
const DIRECTORY_MODE: u32 = 0o1777;

impl Server {
    pub(super) fn create(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        reply.require(size_of::<EntryOut>().saturating_add(size_of::<OpenOut>()))?;
        let CreateIn { flags, mode, .. } = request.arguments()?;
        let name = request.name_after::<CreateIn>()?;
        let wanted = OFlags::from_bits_retain(flags);
        let access = access(wanted)?;
        let directory = self.directory_for(request, name)?;
        self.room_for_handle()?;
        let mode = host::permissions(Kind::File, mode);
        let (entry, fh) = match host::create_beneath(&directory, name.bytes(), access, mode) {
            Ok(fd) => self.created(request, name, &directory, fd)?,
            // The host has made it since the guest looked.
            Err(Errno::EXIST) if !wanted.contains(OFlags::EXCL) => {
                self.open_there(request, name, &directory, wanted)?
            }
            Err(error) => return Err(error.into()),
        };
        reply.put(entry.as_bytes())?;
        Ok(reply.put(open_out(fh, 0, access).as_bytes())?)
    }

    fn created(
        &self,
        request: &Request<'_>,
        name: Name<'_>,
        directory: &OwnedFd,
        fd: OwnedFd,
    ) -> Result<(EntryOut, u64), Errno> {
        self.give(fd.as_fd(), &request.header, directory)?;
        let stat = fstat(&fd)?;
        let entry = self.enter(request.header.nodeid, name, &stat)?;
        self.opened_or_forgotten(entry, |node| {
            self.keep(Open::new(node, host::identity(&stat), fd))
        })
    }

    fn open_there(
        &self,
        request: &Request<'_>,
        name: Name<'_>,
        directory: &OwnedFd,
        wanted: OFlags,
    ) -> Result<(EntryOut, u64), Errno> {
        let stat = host::stat_name(directory, name.bytes())?;
        let entry = self.enter(request.header.nodeid, name, &stat)?;
        let (mut entry, fh) = self.opened_or_forgotten(entry, |node| {
            self.must_be(Kind::File, node)?;
            if wanted.contains(OFlags::TRUNC) {
                self.truncate(node, 0)?;
            }
            self.hold(node, access(wanted)?).map(|(fh, _)| fh)
        })?;
        let open = lock(&self.handles).get(fh, entry.nodeid)?;
        entry.attr = self.attributes(&fstat(&open.fd)?);
        Ok((entry, fh))
    }

    /// Opens the node of an entry. A guest that is refused holds no lookup on it.
    fn opened_or_forgotten(
        &self,
        entry: EntryOut,
        open: impl FnOnce(u64) -> Result<u64, Errno>,
    ) -> Result<(EntryOut, u64), Errno> {
        let node = entry.nodeid;
        let fh = open(node).inspect_err(|_| lock(&self.tree.nodes).forget(node, 1))?;
        Ok((entry, fh))
    }

    pub(super) fn mknod(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let MknodIn { mode, .. } = request.arguments()?;
        let name = request.name_after::<MknodIn>()?;
        let kind = match FileType::from_raw_mode(mode) {
            // No type is a regular file, mknod(2).
            FileType::Unknown if mode & libc::S_IFMT == 0 => FileType::RegularFile,
            kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket) => kind,
            _ => return Err(Errno::PERM.into()),
        };
        let mode = host::permissions(Kind::File, mode);
        self.make(request, name, reply, |directory| {
            mknodat(directory, name.bytes(), kind, mode, 0)
        })
    }

    pub(super) fn mkdir(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        let MkdirIn { mode, .. } = request.arguments()?;
        let name = request.name_after::<MkdirIn>()?;
        let mode = Mode::from_raw_mode(mode & DIRECTORY_MODE);
        self.make(request, name, reply, |directory| {
            mkdirat(directory, name.bytes(), mode)
        })
    }

    pub(super) fn symlink(
        &self,
        request: &Request<'_>,
        reply: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let (name, target) = request.two_after::<()>()?;
        let name = Name::new(name)?;
        if target.is_empty() {
            return Err(Errno::NOENT.into());
        }
        if target.len() >= TARGET_BYTES_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        self.make(request, name, reply, |directory| {
            symlinkat(target, directory, name.bytes())
        })
    }

    /// One more name for a file. Its path on the host is not walked again, so that the file is
    /// the node's and no other.
    pub(super) fn link(&self, request: &Request<'_>, reply: &mut dyn Sink) -> Result<(), Failure> {
        reply.require(size_of::<EntryOut>())?;
        let LinkIn { oldnodeid } = request.arguments()?;
        let name = request.name_after::<LinkIn>()?;
        let directory = self.directory_for(request, name)?;
        let file = self.reach(oldnodeid)?;
        let flags = AtFlags::SYMLINK_FOLLOW;
        linkat(CWD, host::path_of(&file), &directory, name.bytes(), flags)?;
        let stat = host::stat_name(&directory, name.bytes())?;
        reply.put_object(&self.enter(request.header.nodeid, name, &stat)?)
    }

    /// Makes what is opened by nobody, and tells the guest of it.
    fn make(
        &self,
        request: &Request<'_>,
        name: Name<'_>,
        reply: &mut dyn Sink,
        make: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<(), Failure> {
        reply.require(size_of::<EntryOut>())?;
        let directory = self.directory_for(request, name)?;
        make(directory.as_fd())?;
        if self.gives_away(&request.header) {
            let fd = host::open_beneath(&directory, name.bytes(), host::PLACE)?;
            self.give(fd.as_fd(), &request.header, &directory)?;
        }
        let stat = host::stat_name(&directory, name.bytes())?;
        reply.put_object(&self.enter(request.header.nodeid, name, &stat)?)
    }

    /// The directory that a request adds a name to, when host and guest have room for it.
    fn directory_for(&self, request: &Request<'_>, name: Name<'_>) -> Result<Arc<OwnedFd>, Errno> {
        let header = &request.header;
        self.content
            .owners()
            .wanted(Some(header.uid), Some(header.gid))?;
        let directory = self.tree.place(header.nodeid)?;
        let room = lock(&self.tree.nodes).room(name);
        room.inspect_err(|error| self.count_refused(*error))?;
        self.reserve.take_for_file(&directory)?;
        Ok(directory)
    }

    /// Whether what is made for a request is to belong to somebody else than this process.
    fn gives_away(&self, header: &InHeader) -> bool {
        let own = (geteuid().as_raw(), getegid().as_raw());
        self.content.owners() == Owners::Same && own != (header.uid, header.gid)
    }

    /// Gives what was just made in `directory` to who asked for it.
    fn give(
        &self,
        made: BorrowedFd<'_>,
        header: &InHeader,
        directory: &OwnedFd,
    ) -> Result<(), Errno> {
        if !self.gives_away(header) {
            return Ok(());
        }
        let stat = fstat(made)?;
        // Some program of the host may have put another file there, which is not to be given away.
        if !just_made(&stat) {
            return Err(Errno::STALE);
        }
        let inherited = Mode::from_raw_mode(fstat(directory)?.st_mode).contains(Mode::SGID);
        let gid = (!inherited).then_some(header.gid);
        let (uid, gid) = self.content.owners().wanted(Some(header.uid), gid)?;
        chownat(made, c"", uid, gid, AtFlags::EMPTY_PATH)
    }
}

/// Whether a file may be one that this process has made a moment ago.
fn just_made(stat: &Stat) -> bool {
    let is_directory = host::identity(stat).kind == Kind::Directory;
    stat.st_uid == geteuid().as_raw() && (is_directory || stat.st_nlink == 1)
}
