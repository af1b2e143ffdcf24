//! What an image has that could mean the host, and means nothing there: whoever runs it is told.

use crate::entries::{Entry, Kind};

/// Type bits of character devices and block devices.
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;

/// What its layers have of that.
#[derive(Debug, Default)]
pub struct Contained {
    devices: Seen,
    through_links: Seen,
}

impl Contained {
    /// Notes an entry whose folder was reached by a link to the root or above it, if `leads_out`.
    pub fn note(&mut self, entry: &Entry, leads_out: bool) {
        if leads_out {
            self.through_links.note(entry);
        }
        // The machine has folders of its own there, which hide them.
        let is_hidden = entry.path.first().is_some_and(|first| first == b"dev");
        if let Kind::Special { kind, .. } = entry.kind
            && matches!(kind, CHARACTER_DEVICE | BLOCK_DEVICE)
            && !is_hidden
        {
            self.devices.note(entry);
        }
    }

    /// A line for each kind of thing.
    pub fn lines(&self) -> Vec<String> {
        let devices = self.devices.line("device nodes", "nobody can open them");
        let through = "names behind links to the root or above it";
        let links = self
            .through_links
            .line(through, "they were looked for within the image");
        devices.into_iter().chain(links).collect()
    }
}

/// Entries of one kind.
#[derive(Debug, Default)]
struct Seen {
    count: usize,
    first: String,
}

impl Seen {
    fn note(&mut self, entry: &Entry) {
        if self.count == 0 {
            self.first = String::from_utf8_lossy(&entry.path.join(&b'/')).into_owned();
        }
        self.count += 1;
    }

    fn line(&self, what: &str, so: &str) -> Option<String> {
        let Self { count, first } = self;
        (*count > 0)
            .then(|| format!("the image has {what} ({count}, the first is {first:?}): {so}"))
    }
}
