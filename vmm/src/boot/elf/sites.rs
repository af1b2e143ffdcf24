//! The places of text that Linux rewrites as it starts, from its own tables of them.
//!
//! Each entry of such a table begins with an `s32`: where the place is, from here.

use std::collections::BTreeSet;
use std::ops::Range;

use super::headers::Headers;
use crate::memory::PAGE_BYTES;

/// `struct alt_instr` since Linux 6.3.
const ALTERNATIVE_BYTES: u64 = 14;

/// `struct static_call_site`.
const STATIC_CALL_BYTES: u64 = 8;

/// Linux has some ten thousand.
const ENTRIES_MAX: u64 = 1 << 18;

/// The pages of text in which something will be rewritten, in ranges of the file, in order.
///
/// Alternatives are a section. Calls that are made direct ones are a part of one, between two symbols,
/// which a stripped kernel need not have.
pub fn pages(headers: &Headers<'_>) -> Vec<Range<u64>> {
    let tables = [
        alternatives(headers).map(|table| (table, ALTERNATIVE_BYTES)),
        static_calls(headers).map(|table| (table, STATIC_CALL_BYTES)),
    ];
    let pages: BTreeSet<u64> = tables
        .into_iter()
        .flatten()
        .filter_map(|(table, entry_bytes)| pages_of(headers, &table, entry_bytes))
        .flatten()
        .collect();
    let pages: Vec<u64> = pages.into_iter().collect();
    let runs = pages.chunk_by(|page, next| page + 1 == *next);
    let range =
        |run: &[u64]| run[0] * PAGE_BYTES..(run[run.len() - 1] + 1).saturating_mul(PAGE_BYTES);
    runs.map(range).collect()
}

fn alternatives(headers: &Headers<'_>) -> Option<Range<u64>> {
    let table = headers.find(".altinstructions")?;
    Some(table.addr..table.addr.checked_add(table.size)?)
}

fn static_calls(headers: &Headers<'_>) -> Option<Range<u64>> {
    let start = headers.symbol("__start_static_call_sites")?;
    Some(start..headers.symbol("__stop_static_call_sites")?)
}

/// The pages of the file that a table at these addresses tells of.
fn pages_of(headers: &Headers<'_>, table: &Range<u64>, entry_bytes: u64) -> Option<BTreeSet<u64>> {
    let count = table.end.checked_sub(table.start)? / entry_bytes;
    if count > ENTRIES_MAX {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(count * entry_bytes).ok()?];
    headers
        .file
        .read_at(&mut bytes, headers.offset_of(table.start)?)
        .ok()?;
    let text: Vec<_> = headers.all.iter().filter(|part| part.is_text()).collect();
    let page = |(at, entry): (u64, &[u8])| {
        let distance = i32::from_le_bytes(*entry.first_chunk()?);
        let place = at.checked_add_signed(distance.into())?;
        // All are in text: what is not is a table of another form.
        Some(text.iter().find_map(|part| part.offset_of(place))? / PAGE_BYTES)
    };
    let addresses = (0..count).map(|nth| table.start + nth * entry_bytes);
    let entries = bytes.chunks_exact(usize::try_from(entry_bytes).ok()?);
    addresses.zip(entries).map(page).collect()
}
