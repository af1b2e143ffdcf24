//! Which bytes of a `vmlinux` Linux only reads, from the sections of its file.
//!
//! Three things are not as the segments say. A kernel that is built with return thunks lists each of
//! its returns in `.return_sites`, and rewrites them all for the processor that it finds: some ten
//! in each page of text. Any kernel rewrites places in some of its pages (`sites.rs`). And in the
//! midst of what it writes to are parts that nobody does, text for its start and tables, above all
//! those for unwinding the stack (`.orc_unwind`), which may be larger than all data. What is told
//! here only chooses between two ways to load the same bytes, so that sections that are missing or
//! make no sense are no error.

use std::ops::Range;

use super::headers::{ALLOC, BYTES, Headers, SectionHeader, WRITE};
use super::{FileHeader, sites};
use crate::memory::PAGE_BYTES;
use crate::window::Window;

/// Of a smaller part of writable memory less is won than a mapping of its own costs.
const PART_BYTES_MIN: u64 = 256 << 10;

/// `s32`: where a return is, from here.
const SITE_BYTES: u64 = 4;

/// What the sections of a file say of it, in ranges of the file.
#[derive(Default)]
pub struct Sections {
    /// Text that will be rewritten in nearly each page; empty where that is not so, or not known.
    rewritten: Range<u64>,
    /// Pages of any text in which something will be rewritten, in order.
    patched: Vec<Range<u64>>,
    /// Parts of writable memory that are only read.
    constant: Vec<Range<u64>>,
}

impl Sections {
    /// Those of `file`.
    pub fn read(file: &Window, header: &FileHeader) -> Self {
        let Some(headers) = Headers::read(file, header) else {
            return Self::default();
        };
        Self {
            rewritten: rewritten(&headers).unwrap_or_default(),
            patched: sites::pages(&headers),
            constant: headers.all.iter().filter_map(constant).collect(),
        }
    }

    /// The pages of a part of the file, which begins and ends at one, in which something will be
    /// rewritten, in order.
    pub fn patched(&self, part: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let within = |pages: &Range<u64>| pages.start.max(part.start)..pages.end.min(part.end);
        self.patched
            .iter()
            .map(within)
            .filter(|pages| pages.start < pages.end)
    }

    /// The parts of a segment that are only read, in order; `segment` is its range of the file.
    pub fn constant(&self, segment: &Range<u64>, is_writable: bool) -> Vec<Range<u64>> {
        let mut parts = if is_writable {
            let is_within =
                |part: &Range<u64>| segment.start <= part.start && part.end <= segment.end;
            let mut parts = self.constant.clone();
            parts.retain(is_within);
            parts
        } else {
            let within = |offset: u64| offset.clamp(segment.start, segment.end);
            let (from, to) = (within(self.rewritten.start), within(self.rewritten.end));
            vec![segment.start..from, to..segment.end]
        };
        parts.sort_by_key(|part| part.start);
        let mut end = segment.start;
        parts.retain(|part| {
            let is_next = end <= part.start && part.start < part.end;
            end = if is_next { part.end } else { end };
            is_next
        });
        parts
    }
}

fn constant(section: &SectionHeader) -> Option<Range<u64>> {
    let is_constant = section.flags & (WRITE | ALLOC) == ALLOC && section.kind == BYTES;
    (is_constant && section.size >= PART_BYTES_MIN).then_some(section.in_file()?)
}

fn rewritten(headers: &Headers<'_>) -> Option<Range<u64>> {
    let returns = headers.find(".return_sites")?;
    let text = headers.find(".text")?;
    let is_everywhere = returns.size / SITE_BYTES >= text.size.div_ceil(PAGE_BYTES);
    is_everywhere.then_some(text.in_file()?)
}
