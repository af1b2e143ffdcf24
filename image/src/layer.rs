//! A layer in the cache: a folder with two files, `index` and `content`.
//!
//! The index is what the archive's headers said, in postcard's form; the content is the regular
//! files' bytes one behind the other. Both are the archive's word, checked when it was read, and
//! never read by anything but this program.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::digest::{Digest, Hashing};
use crate::entries::{self, Entry};

/// Bytes of one layer: what a small file can be packed to is bounded only by its reader.
const LAYER_BYTES_MAX: u64 = 64 << 30;

/// What is packed is unpacked in such pieces.
const BUFFER_BYTES: usize = 256 << 10;

const INDEX: &str = "index";
const CONTENT: &str = "content";

/// Unpacks a layer, whose archive is to have the digest `diff_id`, into the folder `to`.
pub fn unpack(archive: impl Read, diff_id: &Digest, to: &Path) -> Result<()> {
    let mut hashing = Hashing::new(archive.take(LAYER_BYTES_MAX));
    make(to, |content| {
        let entries = entries::read(&mut hashing, content)?;
        hashing.expect(diff_id)?;
        Ok(entries)
    })
}

/// Makes a layer in the folder `to`, whose entries `make` tells and whose content it writes.
pub fn make(
    to: &Path,
    make: impl FnOnce(&mut BufWriter<File>) -> Result<Vec<Entry>>,
) -> Result<()> {
    let content = File::create(to.join(CONTENT)).context("cannot make a layer's content")?;
    let mut content = BufWriter::with_capacity(BUFFER_BYTES, content);
    let entries = make(&mut content)?;
    let cannot = "cannot write a layer's content";
    content.flush().context(cannot)?;
    // A sparse file that is the last may end with what was passed over.
    let bytes = content.stream_position().context(cannot)?;
    content.get_ref().set_len(bytes).context(cannot)?;
    let index = postcard::to_stdvec(&entries).context("cannot encode a layer's index")?;
    fs::write(to.join(INDEX), index).context("cannot write a layer's index")
}

/// The entries of the layer in `folder`.
pub fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let path = folder.join(INDEX);
    let index = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (entries, rest) = postcard::take_from_bytes(&index)
        .with_context(|| format!("{} is damaged", path.display()))?;
    ensure!(rest.is_empty(), "{} is damaged", path.display());
    Ok(entries)
}

/// The content of the layer in `folder`.
pub fn content(folder: &Path) -> Result<File> {
    let path = folder.join(CONTENT);
    File::open(&path).with_context(|| format!("cannot open {}", path.display()))
}
