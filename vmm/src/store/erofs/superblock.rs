//! The superblock: where all begins, and what shows that a head is whole.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::BLOCK_BYTES;
use super::checksum::crc32c;

/// Where it is in its block.
const OFFSET: usize = 1024;

/// Where inodes may begin.
pub const SUPERBLOCK_END: u64 = (OFFSET + size_of::<Superblock>()) as u64;

const MAGIC: u32 = 0xe0f5_e1e2;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM` and `_MTIME`: it has a checksum, and times are of modification.
const COMPATIBLE: u32 = 1 << 0 | 1 << 1;

/// The time of all files in a store (Nix' `mtimeStore`), which each short inode has from here.
pub(super) const TIME: u64 = 1;

/// As another program calls such a file system without a name of its own.
const UUID: [u8; 16] = *b"mvm\0\0\0\x40\0\x80\0\0\0\0\0\0\0";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Superblock {
    magic: U32,
    checksum: U32,
    feature_compat: U32,
    block_bits: u8,
    extension_slots: u8,
    root_nid: U16,
    inodes: U64,
    build_time: U64,
    build_time_ns: U32,
    blocks: U32,
    metadata_block: U32,
    attributes_block: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
    feature_incompat: U32,
    zeros: [u8; 44],
}

const _: () = assert!(size_of::<Superblock>() == 128);

/// What differs between two of them.
pub(super) struct Facts {
    /// Number of the root's inode.
    pub root: u16,
    /// How many inodes there are.
    pub inodes: u64,
    /// How many blocks there are, the large files' among them.
    pub blocks: u32,
}

/// Writes it into the first block, which has all else that belongs there: its checksum is of that,
/// too.
pub(super) fn seal(block: &mut [u8], facts: &Facts) {
    let superblock = Superblock {
        magic: MAGIC.into(),
        checksum: 0.into(),
        feature_compat: COMPATIBLE.into(),
        block_bits: BLOCK_BYTES.trailing_zeros() as u8,
        extension_slots: 0,
        root_nid: facts.root.into(),
        inodes: facts.inodes.into(),
        build_time: TIME.into(),
        build_time_ns: 0.into(),
        blocks: facts.blocks.into(),
        metadata_block: 0.into(),
        attributes_block: 0.into(),
        uuid: UUID,
        volume_name: [0; 16],
        feature_incompat: 0.into(),
        zeros: [0; 44],
    };
    let end = OFFSET + size_of::<Superblock>();
    block[OFFSET..end].copy_from_slice(superblock.as_bytes());
    let checksum = crc32c(&block[OFFSET..BLOCK_BYTES as usize]);
    block[OFFSET + 4..OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// Whether the first block is as it was written, for a file system of so many blocks.
pub fn is_whole(block: &[u8; BLOCK_BYTES as usize], blocks: u64) -> bool {
    let mut summed = *block;
    summed[OFFSET + 4..OFFSET + 8].fill(0);
    let (Ok((found, _)), checksum) = (
        Superblock::read_from_prefix(&block[OFFSET..]),
        crc32c(&summed[OFFSET..]),
    ) else {
        return false;
    };
    found.magic.get() == MAGIC
        && found.checksum.get() == checksum
        && u64::from(found.blocks.get()) == blocks
}
