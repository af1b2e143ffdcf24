//! The entries of an archive that nobody trusts.
//!
//! The one thing to know: names may come in entries of their own, of GNU tar or pax(1), and their
//! lengths are the sender's word; so they are read here, with a bound, and not by the library.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tar::{Entry, EntryType, Header, PaxExtensions};

/// Bytes of a name: Linux takes no more (`PATH_MAX`).
const NAME_MAX: u64 = 4096;

/// Bytes of one pax header: two names, and numbers.
const PAX_MAX: u64 = 16 << 10;

/// The archive ends before it is complete: whoever writes it knows why.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the archive is cut off")
    }
}

impl std::error::Error for Cut {}

/// What an entry makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A symbolic link, and its text.
    Link(PathBuf),
    /// Another name of a file that the archive has had.
    HardLink(Vec<PathBuf>),
}

/// One file, folder or link.
#[derive(Debug)]
pub(super) struct Item {
    /// Names from the root of the archive, each without a slash; none for that root itself.
    pub(super) names: Vec<PathBuf>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// All twelve bits.
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) owner: u32,
    pub(super) group: u32,
}

/// Names that came before their entry.
#[derive(Default)]
pub(super) struct Names {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Names {
    /// Takes the next entry; `None` if it was about another, which follows.
    pub(super) fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<Option<Item>> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => self.path = Some(long_name(entry)?),
            EntryType::GNULongLink => self.link = Some(long_name(entry)?),
            EntryType::XHeader => self.take_pax(entry)?,
            // Defaults for all that follows; none is of use here.
            EntryType::XGlobalHeader => {}
            _ => return std::mem::take(self).item(entry.header()).map(Some),
        }
        Ok(None)
    }

    fn take_pax(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<()> {
        let bytes = bounded(entry, PAX_MAX)?;
        for record in PaxExtensions::new(&bytes) {
            let record = record.context("a pax header is broken")?;
            let name = || -> Result<_> {
                let value = record.value_bytes();
                ensure!(value.len() as u64 <= NAME_MAX, TOO_LONG);
                Ok(Some(value.to_vec()))
            };
            match record.key_bytes() {
                b"path" => self.path = name()?,
                b"linkpath" => self.link = name()?,
                b"size" => bail!("sizes in pax headers (files above 8 GiB) are not understood"),
                key if key.starts_with(b"GNU.sparse") => bail!("sparse files are not understood"),
                _ => {}
            }
        }
        Ok(())
    }

    fn item(self, header: &Header) -> Result<Item> {
        let path = self.path.unwrap_or_else(|| header.path_bytes().into());
        let own_link = || header.link_name_bytes().map(Vec::from).unwrap_or_default();
        let link = self.link.unwrap_or_else(own_link);
        let shown = Path::new(OsStr::from_bytes(&path));
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let kind = match header.entry_type() {
            // As before POSIX.
            EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Link(text(&link)?),
            EntryType::Link => Kind::HardLink(names(&link)?),
            EntryType::Char | EntryType::Block => bail!("{shown:?} is a device"),
            EntryType::Fifo => bail!("{shown:?} is a pipe"),
            other => bail!(
                "{shown:?} is of a kind ({:?}) that is not copied",
                char::from(other.as_byte())
            ),
        };
        Ok(Item {
            names: names(&path)?,
            size: header.entry_size().context(BROKEN)?,
            mode: header.mode().context(BROKEN)? & 0o7777,
            modified: header.mtime().context(BROKEN)?,
            owner: number(header.uid().context(BROKEN)?),
            group: number(header.gid().context(BROKEN)?),
            kind,
        })
    }
}

const TOO_LONG: &str = "a name in the archive is longer than Linux takes";
const BROKEN: &str = "a header of the archive is broken";

fn long_name(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>> {
    // The NUL at its end counts.
    let mut name = bounded(entry, NAME_MAX + 1)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn bounded(entry: &mut Entry<'_, impl Read>, limit: u64) -> Result<Vec<u8>> {
    let size = entry.header().entry_size().context(BROKEN)?;
    ensure!(size <= limit, TOO_LONG);
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).context(Cut)?;
    ensure!(bytes.len() as u64 == size, Cut);
    Ok(bytes)
}

/// A name taken apart. One that leads out of its root is refused, not mended.
fn names(path: &[u8]) -> Result<Vec<PathBuf>> {
    let path = text(path)?;
    let name = |component| match component {
        Component::CurDir => None,
        Component::Normal(name) => Some(Ok(PathBuf::from(name))),
        _ => Some(Err(anyhow::anyhow!("{path:?} leads out of the archive"))),
    };
    path.components().filter_map(name).collect()
}

fn text(bytes: &[u8]) -> Result<PathBuf> {
    ensure!(!bytes.is_empty(), "a name in the archive is empty");
    ensure!(bytes.len() as u64 <= NAME_MAX, TOO_LONG);
    ensure!(!bytes.contains(&0), "a name in the archive contains a NUL");
    Ok(OsStr::from_bytes(bytes).into())
}
