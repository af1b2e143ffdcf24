//! Inodes, in the two forms that they have.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use super::superblock::TIME;

/// Bits of the type in a mode.
pub(super) const DIRECTORY: u16 = 0o040_000;
pub(super) const REGULAR: u16 = 0o100_000;
pub(super) const LINK: u16 = 0o120_000;

/// An inode's number is its place in these units.
pub(super) const SLOT_BYTES: u64 = 32;

/// `i_format`: bit 0 is the long form, the others say where the data are.
const LONG: u16 = 1;
const FLAT_PLAIN: u16 = 0 << 1;
const FLAT_INLINE: u16 = 2 << 1;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Short {
    format: U16,
    attributes: U16,
    mode: U16,
    links: U16,
    size: U32,
    zero: U32,
    block: U32,
    number: U32,
    owner: U16,
    group: U16,
    zero_too: U32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Long {
    format: U16,
    attributes: U16,
    mode: U16,
    zero: U16,
    size: U64,
    block: U32,
    number: U32,
    owner: U32,
    group: U32,
    time: U64,
    time_ns: U32,
    links: U32,
    zeros: [u8; 16],
}

const _: () = assert!(size_of::<Short>() == 32 && size_of::<Long>() == 64);

/// What an inode says. Its owner is root, and its time that of all files in a store.
#[derive(Clone, Copy)]
pub(super) struct Inode {
    /// Type and permissions.
    pub mode: u16,
    /// Names that it has.
    pub links: u32,
    /// Bytes of its data.
    pub size: u64,
    /// Where they begin, if all or some of them are in blocks.
    pub block: u32,
    /// Whether what does not fill a block is behind the inode.
    pub is_inline: bool,
    /// What programs from before 64-bit numbers see as its number.
    pub number: u32,
}

impl Inode {
    /// Bytes that it takes.
    pub fn bytes(self) -> u64 {
        if self.is_long() { 64 } else { 32 }
    }

    fn is_long(self) -> bool {
        self.size > u32::MAX.into() || self.links > u16::MAX.into()
    }

    /// Adds it to the end of `to`.
    pub fn write(self, to: &mut [u8]) {
        let data = if self.is_inline {
            FLAT_INLINE
        } else {
            FLAT_PLAIN
        };
        if self.is_long() {
            let long = Long {
                format: (LONG | data).into(),
                attributes: 0.into(),
                mode: self.mode.into(),
                zero: 0.into(),
                size: self.size.into(),
                block: self.block.into(),
                number: self.number.into(),
                owner: 0.into(),
                group: 0.into(),
                time: TIME.into(),
                time_ns: 0.into(),
                links: self.links.into(),
                zeros: [0; 16],
            };
            to.copy_from_slice(long.as_bytes());
            return;
        }
        let short = Short {
            format: data.into(),
            attributes: 0.into(),
            mode: self.mode.into(),
            links: (self.links as u16).into(),
            size: (self.size as u32).into(),
            zero: 0.into(),
            block: self.block.into(),
            number: self.number.into(),
            owner: 0.into(),
            group: 0.into(),
            zero_too: 0.into(),
        };
        to.copy_from_slice(short.as_bytes());
    }
}
