//! Directories: blocks of entries, each block with its names behind them, all in the names' order.

use std::ops::Range;

use super::BLOCK_BYTES;

/// An entry without its name: 8 bytes of number, 2 of where the name is, a type and a zero.
const ENTRY_BYTES: usize = 12;

/// `FT_REG_FILE`, `FT_DIR` and `FT_SYMLINK`.
pub(super) const REGULAR: u8 = 1;
pub(super) const FOLDER: u8 = 2;
pub(super) const LINK: u8 = 7;

/// An entry: its name, of at most 255 bytes, its node, and that node's type.
pub(super) type Entry<'a> = (&'a [u8], usize, u8);

/// Sorts entries, as they are looked for by halves.
pub(super) fn sort(entries: &mut [Entry<'_>]) {
    entries.sort_unstable_by_key(|(name, ..)| *name);
}

/// Which of the sorted entries are in one block each, with the bytes that they take of it.
fn in_blocks<'a>(entries: &'a [Entry<'a>]) -> impl Iterator<Item = (Range<usize>, usize)> + 'a {
    let mut start = 0;
    std::iter::from_fn(move || {
        let (mut end, mut bytes) = (start, 0);
        while let Some((name, ..)) = entries.get(end) {
            let more = ENTRY_BYTES + name.len();
            if bytes + more > BLOCK_BYTES as usize {
                break;
            }
            bytes += more;
            end += 1;
        }
        let range = start..end;
        start = end;
        (!range.is_empty()).then_some((range, bytes))
    })
}

/// Bytes of a directory of these sorted entries.
pub(super) fn bytes(entries: &[Entry<'_>]) -> u64 {
    let (blocks, last) = in_blocks(entries).fold((0, 0), |(n, _), (_, bytes)| (n + 1, bytes));
    (blocks - 1) * BLOCK_BYTES + last as u64
}

/// The directory's bytes; `number` tells the inode of a node.
pub(super) fn write(entries: &[Entry<'_>], number: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut written = Vec::new();
    for (range, _) in in_blocks(entries) {
        written.resize(written.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        let entries = &entries[range];
        let mut name_at = entries.len() * ENTRY_BYTES;
        for (name, node, kind) in entries {
            written.extend(number(*node).to_le_bytes());
            // A block has 4096 bytes.
            written.extend((name_at as u16).to_le_bytes());
            written.extend([*kind, 0]);
            name_at += name.len();
        }
        for (name, ..) in entries {
            written.extend(*name);
        }
    }
    written
}
