//! An image before it is made: what is in it, and how large it will be.

use std::collections::BTreeSet;

use anyhow::Result;
use devices::virtio::region::ALIGNMENT;
use serde::{Deserialize, Serialize};

use super::erofs::{BLOCK_BYTES, Layout, Tree};
use super::tree::Root;

/// How large an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// Bytes of memory that it is.
    pub bytes: u64,
    /// Of these, what is written and kept; the others are files of the store.
    pub head_bytes: u64,
    /// How many of these files there are.
    pub files: u64,
}

/// An image that can be made.
pub struct Plan {
    /// What is in it.
    pub tree: Tree,
    /// Where.
    pub layout: Layout,
}

impl Plan {
    /// That of these entries of `root`: all names are read, and no file.
    ///
    /// # Errors
    /// One cannot be read, or there is more than a file system holds.
    pub fn of(root: &Root, names: &BTreeSet<&str>) -> Result<Self> {
        let tree = root.tree(names)?;
        let layout = Layout::of(&tree)?;
        Ok(Self { tree, layout })
    }

    /// How large it will be.
    pub fn size(&self) -> Size {
        let large = self.tree.extents.iter().filter(|extent| !extent.is_small());
        Size {
            bytes: memory_bytes(self.layout.blocks()),
            head_bytes: self.layout.head_blocks() * BLOCK_BYTES,
            files: large.count() as u64,
        }
    }
}

/// Memory that a file system of so many blocks takes.
pub fn memory_bytes(blocks: u64) -> u64 {
    (blocks * BLOCK_BYTES).next_multiple_of(ALIGNMENT)
}
