//! What the host tells of each page of this process (Linux'
//! `Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::Context;

use super::PAGE_BYTES;

const PAGEMAP: &str = "/proc/self/pagemap";

/// What is told of one page.
#[derive(Clone, Copy)]
pub struct Page(u64);

impl Page {
    /// It is in memory.
    pub fn is_present(self) -> bool {
        self.0 & 1 << 63 != 0
    }

    /// It is in memory and a file's: not a copy that was made at its first write.
    pub fn is_of_file(self) -> bool {
        self.is_present() && self.0 & 1 << 61 != 0
    }
}

/// The table of this process' pages.
pub struct Pagemap(File);

impl Pagemap {
    /// Opens it.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn open() -> anyhow::Result<Self> {
        let file = File::open(PAGEMAP).with_context(|| format!("cannot open {PAGEMAP}"))?;
        Ok(Self(file))
    }

    /// Looks at the pages of a range of addresses, whole pages.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn look(&self, range: &Range<u64>) -> anyhow::Result<Vec<Page>> {
        let pages = usize::try_from((range.end - range.start) / PAGE_BYTES)?;
        let mut entries = vec![0; pages * size_of::<u64>()];
        let offset = range.start / PAGE_BYTES * size_of::<u64>() as u64;
        self.0
            .read_exact_at(&mut entries, offset)
            .with_context(|| format!("cannot read {PAGEMAP}"))?;
        let (entries, _) = entries.as_chunks();
        let page = |entry: &[u8; 8]| Page(u64::from_ne_bytes(*entry));
        Ok(entries.iter().map(page).collect())
    }
}
