//! EROFS, a read-only file system, as the kernel reads it (Linux' `fs/erofs/erofs_fs.h`).
//!
//! ```text
//! block 0   superblock at byte 1024; behind it inodes, each with its symbolic link or the end of its
//!           directory, until they are all there                                            ┐
//!           blocks of directories, and of links that are too long                          │ the head
//!           small files, each from a block on                                              ┘
//!           large files, each from a block on; they are not written here
//! ```
//!
//! The one thing to know: each file's bytes lie behind each other from a block on (`FLAT_PLAIN`), which
//! is what the kernel maps directly where the disk is memory. So a large file may be anywhere else, and
//! appear at its place by being mapped there.
//!
//! Left out: compression, attributes, devices, several disks.

mod checksum;
mod directory;
mod inode;
mod layout;
mod superblock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, Result, ensure};

pub use layout::Layout;
pub use superblock::{SUPERBLOCK_END, is_whole};

/// Bytes of a block: a page, without which the kernel maps no file directly.
pub const BLOCK_BYTES: u64 = 4096;

/// Files below this size are in the head: a map of each would cost the host 200 bytes and the start of
/// each machine 7 µs, and of a usual store they are six files in seven and a seventh of the bytes.
pub const SMALL_BYTES_MAX: u64 = 64 << 10;

/// A tree of files. Node 0 is its top, a directory.
#[derive(Debug, Default)]
pub struct Tree {
    /// Directories before what is in them.
    pub nodes: Vec<Node>,
    /// The files' contents, of which several nodes may have the same.
    pub extents: Vec<Extent>,
}

/// A file, directory or symbolic link.
#[derive(Debug)]
pub struct Node {
    /// Permissions, without the bits of its type.
    pub permissions: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A directory.
    Directory {
        /// The node that it is in; the top is in itself.
        parent: usize,
        /// Names and nodes, in any order.
        entries: Vec<(Vec<u8>, usize)>,
    },
    /// A symbolic link, and where it leads.
    Link(Vec<u8>),
    /// A regular file: an extent's number, or none of an empty one.
    File(Option<usize>),
}

/// The content of a file.
#[derive(Debug)]
pub struct Extent {
    /// Where it is, below the tree's top.
    pub path: Vec<u8>,
    /// Its size, which is not 0.
    pub bytes: u64,
}

impl Extent {
    /// Whether it is in the head.
    pub const fn is_small(&self) -> bool {
        self.bytes < SMALL_BYTES_MAX
    }
}

/// Writes the head of `tree`, whose small files `open` opens by their paths.
///
/// # Errors
/// A file cannot be read, or has not the size that the tree says; or nothing can be written.
pub fn write(
    tree: &Tree,
    layout: &Layout,
    open: impl Fn(&[u8]) -> Result<File>,
    mut out: impl Write,
) -> Result<()> {
    out.write_all(&layout.metadata(tree)?)?;
    for extent in tree.extents.iter().filter(|extent| extent.is_small()) {
        let copied = open(&extent.path).and_then(|file| {
            // One byte more shows a file that has grown.
            let most = extent.bytes.saturating_add(1);
            Ok(io::copy(&mut file.take(most), &mut out)?)
        });
        let name = || format!("cannot read {}", extent.path.escape_ascii());
        let bytes = copied.with_context(name)?;
        ensure!(
            bytes == extent.bytes,
            "{}: its size has changed",
            extent.path.escape_ascii()
        );
        let end = bytes.next_multiple_of(BLOCK_BYTES);
        io::copy(&mut io::repeat(0).take(end - bytes), &mut out)?;
    }
    Ok(())
}

/// Blocks that so many bytes take.
const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES)
}
