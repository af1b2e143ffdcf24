//! The window's requests: SETUPMAPPING, REMOVEMAPPING.

use std::os::fd::AsFd;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::host;
use super::nodes::Kind;
use super::reply::Failure;
use super::request::Request;
use super::server::Server;
use super::window::{MAPPED_BYTES_MIN, Piece, Window};
use super::wire::{
    ATTR_DAX, Flags, MAPPING_READ, MAPPING_WRITE, RemoveMappingIn, RemoveMappingOne, SetupMappingIn,
};

impl Server {
    /// Maps a piece of a file. A guest that leaves it there does no harm: units are all that it can use up.
    pub(super) fn setup_mapping(&self, request: &Request<'_>) -> Result<(), Failure> {
        let window = self.window_in_use()?;
        let SetupMappingIn {
            foffset,
            len,
            flags,
            moffset,
            ..
        } = request.arguments()?;
        if flags & MAPPING_WRITE != 0 {
            return Err(Errno::ROFS.into());
        }
        if flags != MAPPING_READ {
            return Err(Errno::INVAL.into());
        }
        let range = window.range(moffset, len)?;
        let node = request.header.nodeid;
        self.must_be(Kind::File, node)?;
        let open = self.tree.kept_open(node)?;
        let piece = Piece {
            file: open.fd.as_fd(),
            file_bytes: fstat(&open.fd)?.st_size.cast_unsigned(),
            offset: foffset,
        };
        Ok(window.hold(range, &piece)?)
    }

    /// Takes pieces out of the window: all of those in the list, or where one of them cannot be, none.
    pub(super) fn remove_mapping(&self, request: &Request<'_>) -> Result<(), Failure> {
        let window = self.window_in_use()?;
        let RemoveMappingIn { count } = request.arguments()?;
        let list = || request.list::<RemoveMappingIn, RemoveMappingOne>(count);
        for RemoveMappingOne { moffset, len } in list()? {
            window.range(moffset, len)?;
        }
        for RemoveMappingOne { moffset, len } in list()? {
            window.drop_held(&window.range(moffset, len)?)?;
        }
        Ok(())
    }

    /// What the guest is told of how a file is read.
    pub(super) fn mapped_flag(&self, stat: &Stat) -> u32 {
        let is_large = stat.st_size.cast_unsigned() >= MAPPED_BYTES_MIN;
        let is_mapped = is_large && host::identity(stat).kind == Kind::File;
        if is_mapped && self.window_in_use().is_ok() {
            ATTR_DAX
        } else {
            0
        }
    }

    /// The window, where the guest knows of it.
    fn window_in_use(&self) -> Result<&Window, Errno> {
        let flags = self.session.flags().unwrap_or(Flags::empty());
        let window = self.window.as_ref();
        let window = window.filter(|_| flags.contains(Flags::MAP_ALIGNMENT));
        window.ok_or(Errno::NOSYS)
    }
}
