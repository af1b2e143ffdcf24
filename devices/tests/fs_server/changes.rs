//! The client's requests that change a share.

use std::path::Path;

use devices::virtio::fs::wire::{
    Attr, AttrOut, CopyFileRangeIn, CreateIn, EntryOut, FallocateIn, FsyncIn, GetxattrIn,
    GetxattrOut, LinkIn, LseekIn, LseekOut, MkdirIn, MknodIn, OpenOut, Rename2In, Set, SetattrIn,
    SetxattrIn, WriteIn, WriteOut, opcode,
};
use devices::virtio::fs::{Content, Owners};
use rustix::io::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::client::{Answer, Client, object};

/// The content of a folder that the guest may change, with the owners of a container of root's.
pub fn writable() -> Content {
    Content::Writable {
        timeout: Content::CHANGING_TIMEOUT,
        owners: Owners::Own {
            host: own(),
            guest: own(),
        },
        closed: None,
    }
}

/// User and group of this process.
pub fn own() -> (u32, u32) {
    let uid = rustix::process::geteuid().as_raw();
    (uid, rustix::process::getegid().as_raw())
}

/// A guest that has mounted a folder to change it.
pub fn mount_writable(root: &Path) -> Client {
    Client::mount(root, writable())
}

/// A SETATTR of nothing yet.
pub fn set(valid: Set) -> SetattrIn {
    let mut setattr = SetattrIn::new_zeroed();
    setattr.valid = valid.bits();
    setattr
}

fn named(arguments: &[u8], name: &[u8]) -> Vec<u8> {
    [arguments, name, b"\0"].concat()
}

impl Client {
    /// CREATE.
    pub fn create(
        &self,
        parent: u64,
        name: &[u8],
        flags: i32,
        mode: u32,
    ) -> Result<(EntryOut, OpenOut), Errno> {
        let mut create = CreateIn::new_zeroed();
        (create.flags, create.mode) = ((flags | libc::O_CREAT).cast_unsigned(), mode);
        let body = named(create.as_bytes(), name);
        let reply = self.call(opcode::CREATE, parent, &body)?;
        let (entry, rest) = EntryOut::read_from_prefix(&reply).unwrap();
        Ok((entry, object(rest)))
    }

    /// A new file with some content, closed again; its node.
    pub fn create_file(&self, parent: u64, name: &[u8], content: &[u8]) -> u64 {
        let (entry, open) = self.create(parent, name, libc::O_RDWR, 0o644).unwrap();
        assert_eq!(
            self.write(entry.nodeid, open.fh, 0, content, 0),
            Ok(content.len())
        );
        self.release(entry.nodeid, open.fh).unwrap();
        entry.nodeid
    }

    /// MKNOD.
    pub fn mknod(&self, parent: u64, name: &[u8], mode: u32, rdev: u32) -> Result<EntryOut, Errno> {
        let mut mknod = MknodIn::new_zeroed();
        (mknod.mode, mknod.rdev) = (mode, rdev);
        self.entry(opcode::MKNOD, parent, &named(mknod.as_bytes(), name))
    }

    /// MKDIR.
    pub fn mkdir(&self, parent: u64, name: &[u8], mode: u32) -> Result<EntryOut, Errno> {
        let mkdir = MkdirIn { mode, umask: 0 };
        self.entry(opcode::MKDIR, parent, &named(mkdir.as_bytes(), name))
    }

    /// SYMLINK.
    pub fn symlink(&self, parent: u64, name: &[u8], target: &[u8]) -> Result<EntryOut, Errno> {
        let body = [&named(b"", name), target, b"\0"].concat();
        self.entry(opcode::SYMLINK, parent, &body)
    }

    /// LINK.
    pub fn link(&self, node: u64, parent: u64, name: &[u8]) -> Result<EntryOut, Errno> {
        let link = LinkIn { oldnodeid: node };
        self.entry(opcode::LINK, parent, &named(link.as_bytes(), name))
    }

    fn entry(&self, opcode: u32, parent: u64, body: &[u8]) -> Result<EntryOut, Errno> {
        self.call(opcode, parent, body).map(|body| object(&body))
    }

    /// UNLINK.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let body = named(b"", name);
        self.call(opcode::UNLINK, parent, &body).map(drop)
    }

    /// RMDIR.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        let body = named(b"", name);
        self.call(opcode::RMDIR, parent, &body).map(drop)
    }

    /// RENAME2.
    pub fn rename(
        &self,
        (parent, name): (u64, &[u8]),
        (newdir, new_name): (u64, &[u8]),
        flags: u32,
    ) -> Result<(), Errno> {
        let rename = Rename2In {
            newdir,
            flags,
            padding: 0,
        };
        let body = [rename.as_bytes(), name, b"\0", new_name, b"\0"].concat();
        self.call(opcode::RENAME2, parent, &body).map(drop)
    }

    /// SETATTR.
    pub fn setattr(&self, node: u64, setattr: &SetattrIn) -> Result<Attr, Errno> {
        self.call(opcode::SETATTR, node, setattr.as_bytes())
            .map(|body| object::<AttrOut>(&body).attr)
    }

    /// chmod(2).
    pub fn chmod(&self, node: u64, mode: u32) -> Result<Attr, Errno> {
        let mut setattr = set(Set::MODE);
        setattr.mode = mode;
        self.setattr(node, &setattr)
    }

    /// chown(2).
    pub fn chown(&self, node: u64, uid: u32, gid: u32) -> Result<Attr, Errno> {
        let mut setattr = set(Set::UID | Set::GID);
        (setattr.uid, setattr.gid) = (uid, gid);
        self.setattr(node, &setattr)
    }

    /// truncate(2), or ftruncate(2) of a handle.
    pub fn truncate(&self, node: u64, fh: Option<u64>, size: u64) -> Result<Attr, Errno> {
        let mut setattr = set(if fh.is_some() {
            Set::SIZE | Set::FH
        } else {
            Set::SIZE
        });
        (setattr.fh, setattr.size) = (fh.unwrap_or(0), size);
        self.setattr(node, &setattr)
    }

    /// WRITE to a file that is open with `flags`.
    pub fn write(
        &self,
        node: u64,
        fh: u64,
        offset: u64,
        data: &[u8],
        flags: i32,
    ) -> Result<usize, Errno> {
        let mut write = WriteIn::new_zeroed();
        (write.fh, write.offset, write.size) = (fh, offset, data.len() as u32);
        write.flags = flags.cast_unsigned();
        let body = [write.as_bytes(), data].concat();
        self.call(opcode::WRITE, node, &body)
            .map(|body| object::<WriteOut>(&body).size as usize)
    }

    /// FSYNC.
    pub fn fsync(&self, node: u64, fh: u64, fsync_flags: u32) -> Result<(), Errno> {
        let fsync = FsyncIn {
            fh,
            fsync_flags,
            padding: 0,
        };
        self.call(opcode::FSYNC, node, fsync.as_bytes()).map(drop)
    }

    /// FALLOCATE.
    pub fn fallocate(
        &self,
        node: u64,
        fh: u64,
        mode: i32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let mut fallocate = FallocateIn::new_zeroed();
        (fallocate.fh, fallocate.mode) = (fh, mode.cast_unsigned());
        (fallocate.offset, fallocate.length) = (offset, length);
        self.call(opcode::FALLOCATE, node, fallocate.as_bytes())
            .map(drop)
    }

    /// LSEEK.
    pub fn lseek(&self, node: u64, fh: u64, offset: u64, whence: i32) -> Result<u64, Errno> {
        let mut lseek = LseekIn::new_zeroed();
        (lseek.fh, lseek.offset, lseek.whence) = (fh, offset, whence.cast_unsigned());
        self.call(opcode::LSEEK, node, lseek.as_bytes())
            .map(|body| object::<LseekOut>(&body).offset)
    }

    /// `COPY_FILE_RANGE`.
    pub fn copy(
        &self,
        (node_in, fh_in, off_in): (u64, u64, u64),
        (nodeid_out, fh_out, off_out): (u64, u64, u64),
        len: u64,
    ) -> Result<usize, Errno> {
        let copy = CopyFileRangeIn {
            fh_in,
            off_in,
            nodeid_out,
            fh_out,
            off_out,
            len,
            flags: 0,
        };
        self.call(opcode::COPY_FILE_RANGE, node_in, copy.as_bytes())
            .map(|body| object::<WriteOut>(&body).size as usize)
    }

    /// SETXATTR.
    pub fn setxattr(&self, node: u64, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        let size = value.len() as u32;
        let body = named(SetxattrIn { size, flags }.as_bytes(), name);
        let body = [&*body, value].concat();
        self.call(opcode::SETXATTR, node, &body).map(drop)
    }

    /// GETXATTR.
    pub fn getxattr(&self, node: u64, name: &[u8], size: u32) -> Answer {
        let getxattr = GetxattrIn { size, padding: 0 };
        let body = named(getxattr.as_bytes(), name);
        self.call(opcode::GETXATTR, node, &body)
    }

    /// LISTXATTR.
    pub fn listxattr(&self, node: u64, size: u32) -> Answer {
        let listxattr = GetxattrIn { size, padding: 0 };
        self.call(opcode::LISTXATTR, node, listxattr.as_bytes())
    }

    /// What a GETXATTR or LISTXATTR of size 0 says.
    pub fn size_of(answer: Answer) -> Result<u32, Errno> {
        answer.map(|body| object::<GetxattrOut>(&body).size)
    }

    /// REMOVEXATTR.
    pub fn removexattr(&self, node: u64, name: &[u8]) -> Result<(), Errno> {
        let body = named(b"", name);
        self.call(opcode::REMOVEXATTR, node, &body).map(drop)
    }
}
