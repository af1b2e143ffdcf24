//! Where everything is in a file system, which follows from the tree alone.

use anyhow::{Context, Result, ensure};

use super::directory::{self, Entry};
use super::inode::{self, Inode, SLOT_BYTES};
use super::superblock::{self, Facts, SUPERBLOCK_END};
use super::{BLOCK_BYTES, Kind, Node, Tree, blocks};

/// Longest name (`EROFS_NAME_LEN`).
const NAME_BYTES_MAX: usize = 255;

/// The places of a tree's parts.
pub struct Layout {
    /// Of each node, its inode and where that is, in bytes.
    inodes: Vec<(Inode, u64)>,
    /// Of each extent, its first block.
    extents: Vec<u32>,
    /// Blocks of inodes, directories and links.
    metadata_blocks: u64,
    /// The same with small files.
    head_blocks: u64,
    blocks: u32,
}

impl Layout {
    /// Lays `tree` out.
    ///
    /// # Errors
    /// A name is too long, or there is more than a file system holds: 16 TiB.
    pub fn of(tree: &Tree) -> Result<Self> {
        let mut inodes = Vec::with_capacity(tree.nodes.len());
        let mut at = SUPERBLOCK_END;
        for (number, node) in (1..).zip(&tree.nodes) {
            let mut inode = Inode {
                mode: mode(node),
                links: links(tree, node)?,
                size: size(tree, node)?,
                block: 0,
                is_inline: false,
                number,
            };
            let rest = match node.kind {
                Kind::File(_) => 0,
                _ => inode.size % BLOCK_BYTES,
            };
            inode.is_inline = rest > 0 && inode.bytes() + rest <= BLOCK_BYTES;
            let bytes = inode.bytes() + if inode.is_inline { rest } else { 0 };
            if at % BLOCK_BYTES + bytes > BLOCK_BYTES {
                at = at.next_multiple_of(BLOCK_BYTES);
            }
            inodes.push((inode, at));
            at = (at + bytes).next_multiple_of(SLOT_BYTES);
        }
        let mut next = blocks(at);
        for ((inode, _), node) in inodes.iter_mut().zip(&tree.nodes) {
            if !matches!(node.kind, Kind::File(_)) {
                inode.block = block(next)?;
                next += outside(inode);
            }
        }
        let metadata_blocks = next;
        let mut extents = vec![0; tree.extents.len()];
        let mut head_blocks = next;
        for is_small in [true, false] {
            for (extent, first) in tree.extents.iter().zip(&mut extents) {
                if extent.is_small() == is_small {
                    *first = block(next)?;
                    next += blocks(extent.bytes);
                }
            }
            head_blocks = if is_small { next } else { head_blocks };
        }
        for ((inode, _), node) in inodes.iter_mut().zip(&tree.nodes) {
            if let Kind::File(Some(extent)) = node.kind {
                inode.block = extents[extent];
            }
        }
        Ok(Self {
            inodes,
            extents,
            metadata_blocks,
            head_blocks,
            blocks: block(next)?,
        })
    }

    /// Blocks of the head.
    pub const fn head_blocks(&self) -> u64 {
        self.head_blocks
    }

    /// Blocks of all.
    pub fn blocks(&self) -> u64 {
        self.blocks.into()
    }

    /// The first block of the extent of this number.
    pub fn extent(&self, nth: usize) -> u32 {
        self.extents[nth]
    }

    /// All of the head but small files.
    pub(super) fn metadata(&self, tree: &Tree) -> Result<Vec<u8>> {
        let bytes = usize::try_from(self.metadata_blocks * BLOCK_BYTES)?;
        let mut out = vec![0; bytes];
        for ((nth, node), (inode, at)) in tree.nodes.iter().enumerate().zip(&self.inodes) {
            let start = *at as usize;
            let end = start + inode.bytes() as usize;
            inode.write(&mut out[start..end]);
            let data = self.data(tree, nth, node)?;
            let inside = if inode.is_inline {
                data.len() % BLOCK_BYTES as usize
            } else {
                0
            };
            let (blocks, rest) = data.split_at(data.len() - inside);
            out[end..end + rest.len()].copy_from_slice(rest);
            let first = inode.block as usize * BLOCK_BYTES as usize;
            if !blocks.is_empty() {
                out[first..first + blocks.len()].copy_from_slice(blocks);
            }
        }
        let facts = Facts {
            root: u16::try_from(self.number(0))?,
            inodes: tree.nodes.len() as u64,
            blocks: self.blocks,
        };
        superblock::seal(&mut out[..BLOCK_BYTES as usize], &facts);
        Ok(out)
    }

    /// What a directory or link consists of.
    fn data(&self, tree: &Tree, nth: usize, node: &Node) -> Result<Vec<u8>> {
        Ok(match &node.kind {
            Kind::File(_) => Vec::new(),
            Kind::Link(target) => target.clone(),
            Kind::Directory { parent, entries } => {
                let entries = all(tree, (nth, *parent), entries)?;
                directory::write(&entries, |node| self.number(node))
            }
        })
    }

    fn number(&self, node: usize) -> u64 {
        self.inodes[node].1 / SLOT_BYTES
    }
}

/// Blocks of a directory or link that are not behind its inode.
fn outside(inode: &Inode) -> u64 {
    if inode.is_inline {
        inode.size / BLOCK_BYTES
    } else {
        blocks(inode.size)
    }
}

fn block(number: u64) -> Result<u32> {
    u32::try_from(number).context("it is larger than 16 TiB")
}

fn mode(node: &Node) -> u16 {
    node.permissions
        | match node.kind {
            Kind::Directory { .. } => inode::DIRECTORY,
            Kind::Link(_) => inode::LINK,
            Kind::File(_) => inode::REGULAR,
        }
}

/// A file has one name here, although on the host it may have more.
fn links(tree: &Tree, node: &Node) -> Result<u32> {
    let Kind::Directory { entries, .. } = &node.kind else {
        return Ok(1);
    };
    let is_folder = |node: &usize| matches!(tree.nodes[*node].kind, Kind::Directory { .. });
    let folders = entries.iter().filter(|(_, node)| is_folder(node)).count();
    Ok(u32::try_from(folders + 2)?)
}

fn size(tree: &Tree, node: &Node) -> Result<u64> {
    Ok(match &node.kind {
        Kind::File(extent) => extent.map_or(0, |extent| tree.extents[extent].bytes),
        Kind::Link(target) => target.len() as u64,
        Kind::Directory { parent, entries } => {
            // A node's number does not matter to the size.
            directory::bytes(&all(tree, (0, *parent), entries)?)
        }
    })
}

/// A directory's entries with those of itself and its parent, sorted.
fn all<'a>(
    tree: &Tree,
    (itself, parent): (usize, usize),
    entries: &'a [(Vec<u8>, usize)],
) -> Result<Vec<Entry<'a>>> {
    let own: [Entry<'a>; 2] = [
        (b".", itself, directory::FOLDER),
        (b"..", parent, directory::FOLDER),
    ];
    let mut all = own.to_vec();
    for (name, node) in entries {
        ensure!(
            (1..=NAME_BYTES_MAX).contains(&name.len()),
            "a name of {} bytes cannot be in it",
            name.len()
        );
        let kind = match tree.nodes[*node].kind {
            Kind::Directory { .. } => directory::FOLDER,
            Kind::Link(_) => directory::LINK,
            Kind::File(_) => directory::REGULAR,
        };
        all.push((name, *node, kind));
    }
    directory::sort(&mut all);
    Ok(all)
}
