//! The entries of a layer's archive, in their order: what the index of a layer keeps.

use std::io::{self, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use crate::pax::PATH_BYTES_MAX;
use crate::walk::{CUT_OFF, Head, Stream, Walk};

/// Entries of one layer, and nodes of one image: what the file server takes.
pub const ENTRIES_MAX: usize = devices::virtio::fs::catalog::NODES_MAX;

/// Bytes of all names, targets and attributes of one layer, which are kept in memory: an image of a
/// whole distribution with all its packages has some 20 MiB.
const WORDS_BYTES_MAX: usize = 256 << 20;

/// Bytes of the files of one layer, with those that sparse files do not have: half of what ext4 lets
/// one file have.
const CONTENT_BYTES_MAX: u64 = 8 << 40;

/// Bytes of one name between slashes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// What a whiteout's name begins with (OCI image specification 1.1, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// The name that hides all that a folder had in lower layers.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Names from the image's root; none for that root itself. Each is one component, none `..`.
    pub path: Vec<Vec<u8>>,
    /// The twelve bits of permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970 of the last change, and nanoseconds.
    pub modified: (i64, u32),
    /// Extended attributes.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// What it makes.
    pub kind: Kind,
}

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A folder, or new facts of one.
    Folder,
    /// A regular file: where its bytes are in the layer's content.
    File {
        /// The first.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// A symbolic link, and its text.
    Link(Vec<u8>),
    /// Another name of the file at this path.
    HardLink(Vec<Vec<u8>>),
    /// A device node or FIFO: its type as in `st_mode`, and its number.
    Special {
        /// Type bits.
        kind: u32,
        /// Device number, as Linux encodes it in 32 bits (`new_encode_dev`).
        rdev: u32,
    },
    /// What is at the path in lower layers is gone.
    Whiteout,
    /// What is in the folder at the path in lower layers is gone.
    Opaque,
}

/// Reads the entries of the archive `layer`, and appends the content of its files to `content`, which is
/// empty. What sparse files do not have is passed over there.
pub fn read(layer: impl Read, content: &mut (impl Write + Seek)) -> Result<Vec<Entry>> {
    let mut walk = Walk::new(Stream(layer));
    let mut entries = Vec::new();
    let (mut offset, mut words_bytes) = (0_u64, 0);
    while let Some(head) = walk.next()? {
        let shown = String::from_utf8_lossy(&head.name).into_owned();
        let at = || format!("entry {shown:?}");
        let mut item = item(&head).with_context(at)?;
        if let Kind::File {
            offset: begin,
            bytes,
        } = &mut item.kind
        {
            *begin = offset;
            let end = offset.checked_add(*bytes);
            let end = end.filter(|end| *end <= CONTENT_BYTES_MAX);
            offset =
                end.with_context(|| format!("{}: the layer's files have more than 8 TiB", at()))?;
            copy(&mut walk, &head, *begin, content).with_context(at)?;
        }
        words_bytes += item.words_bytes();
        ensure!(
            entries.len() < ENTRIES_MAX && words_bytes <= WORDS_BYTES_MAX,
            "has more than {ENTRIES_MAX} entries, or more than {WORDS_BYTES_MAX} bytes of names"
        );
        entries.push(item);
    }
    Ok(entries)
}

/// Copies a file to `content`, which is at `begin` and is behind the file then.
fn copy(
    walk: &mut impl Read,
    head: &Head,
    begin: u64,
    content: &mut (impl Write + Seek),
) -> Result<()> {
    let mut copy = |bytes: u64, content: &mut _| {
        let copied = io::copy(&mut walk.by_ref().take(bytes), content)?;
        ensure!(copied == bytes, CUT_OFF);
        Ok(())
    };
    let Some(map) = &head.sparse else {
        return copy(head.bytes, content);
    };
    for (offset, bytes) in &map.pieces {
        content.seek(SeekFrom::Start(begin + offset))?;
        copy(*bytes, content)?;
    }
    content.seek(SeekFrom::Start(begin + map.bytes))?;
    Ok(())
}

impl Entry {
    /// Bytes that it keeps in memory, about.
    fn words_bytes(&self) -> usize {
        let names = |names: &[Vec<u8>]| names.iter().map(|name| name.len() + 24).sum::<usize>();
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.len() + 48);
        let link = match &self.kind {
            Kind::Link(target) => target.len(),
            Kind::HardLink(path) => names(path),
            _ => 0,
        };
        names(&self.path) + attributes.sum::<usize>() + link
    }
}

fn item(head: &Head) -> Result<Entry> {
    let Head {
        header, extensions, ..
    } = head;
    let mut path = components(&head.name)?;
    let kind = match whiteout(&mut path)? {
        Some(whiteout) => whiteout,
        None => kind(head)?,
    };
    ensure!(
        !path.is_empty() || matches!(kind, Kind::Folder | Kind::Opaque),
        "it makes something else than a folder of the image's root"
    );
    let id = |from_pax: Option<u64>, from_header: io::Result<u64>| -> Result<u32> {
        let id = from_pax.map_or(from_header, Ok)?;
        u32::try_from(id).context("its owner is no number that Linux has")
    };
    let modified = match extensions.modified {
        Some(modified) => modified,
        None => (header.mtime()?.cast_signed(), 0),
    };
    Ok(Entry {
        path,
        mode: header.mode()? & 0o7777,
        uid: id(extensions.uid, header.uid())?,
        gid: id(extensions.gid, header.gid())?,
        modified,
        attributes: extensions.attributes.clone(),
        kind,
    })
}

/// The components of a name. One that climbs is refused wherever it leads to: whoever packs a tree
/// has no use for it.
pub fn components(name: &[u8]) -> Result<Vec<Vec<u8>>> {
    ensure!(
        name.len() < PATH_BYTES_MAX,
        "its name is longer than {PATH_BYTES_MAX} bytes"
    );
    let mut components = Vec::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => bail!("its name has \"..\" in it, which could lead out of the image"),
            _ if component.len() > NAME_BYTES_MAX => {
                bail!("a part of its name is longer than {NAME_BYTES_MAX} bytes")
            }
            _ => components.push(component.into()),
        }
    }
    Ok(components)
}

/// What a whiteout does; its path then is that of what it hides.
fn whiteout(path: &mut Vec<Vec<u8>>) -> Result<Option<Kind>> {
    let Some(last) = path.last_mut() else {
        return Ok(None);
    };
    if last == OPAQUE {
        path.pop();
        return Ok(Some(Kind::Opaque));
    }
    let Some(hidden) = last.strip_prefix(WHITEOUT) else {
        return Ok(None);
    };
    ensure!(
        !matches!(hidden, b"" | b"." | b".."),
        "it hides what has no name"
    );
    *last = hidden.to_vec();
    Ok(Some(Kind::Whiteout))
}

fn kind(head: &Head) -> Result<Kind> {
    let target = || -> Result<Vec<u8>> {
        let target = head.target().filter(|target| !target.is_empty());
        Ok(target.context("it is a link to nothing")?.into_owned())
    };
    let header = &head.header;
    Ok(match header.entry_type() {
        // Old archives tell a folder by its slash.
        EntryType::Regular if head.name.ends_with(b"/") => Kind::Folder,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File {
            offset: 0,
            bytes: head.sparse.as_ref().map_or(head.bytes, |map| map.bytes),
        },
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link(target()?),
        EntryType::Link => Kind::HardLink(components(&target()?).context("its target")?),
        EntryType::Fifo => Kind::Special {
            kind: 0o010_000,
            rdev: 0,
        },
        EntryType::Char => device(0o020_000, header)?,
        EntryType::Block => device(0o060_000, header)?,
        other => bail!("its type {:?} is unknown", char::from(other.as_byte())),
    })
}

fn device(kind: u32, header: &Header) -> Result<Kind> {
    let major = header.device_major()?.unwrap_or_default();
    let minor = header.device_minor()?.unwrap_or_default();
    ensure!(
        major < 1 << 12 && minor < 1 << 20,
        "its device number is none that Linux has"
    );
    let rdev = minor & 0xff | major << 8 | (minor & !0xff) << 12;
    Ok(Kind::Special { kind, rdev })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Layer;

    fn entries(layer: &Layer) -> Result<(Vec<Entry>, Vec<u8>)> {
        let mut content = io::Cursor::new(Vec::new());
        let entries = read(&*layer.bytes(), &mut content)?;
        Ok((entries, content.into_inner()))
    }

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').map(Vec::from).collect()
    }

    #[test]
    fn an_entry_keeps_what_its_headers_say() {
        let long = format!("{}/{}", "x".repeat(90), "y".repeat(120));
        let layer = Layer::new()
            .file("./a//b", "one")
            .file("/abs", "two!")
            .file(&long, "")
            .link("l", "/../../etc")
            .attribute("user.test", b"\x00\x01")
            .attribute("trusted.overlay.opaque", b"y")
            .file("x", "v")
            .special("null", b'3', (1, 0x203));
        let (entries, content) = entries(&layer).unwrap();
        assert_eq!(content, b"onetwo!v");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.join(&b'/')).collect();
        let expected = ["a/b", "abs", &long, "l", "x", "null"].map(Vec::from);
        assert_eq!(paths, expected);
        let file = Kind::File {
            offset: 3,
            bytes: 4,
        };
        assert_eq!(entries[1].kind, file);
        assert_eq!(entries[3].kind, Kind::Link(b"/../../etc".into()));
        let attribute = (b"user.test".to_vec(), b"\x00\x01".to_vec());
        assert_eq!(entries[4].attributes, [attribute]);
        let special = Kind::Special {
            kind: 0o020_000,
            rdev: 0x0020_0103,
        };
        assert_eq!(entries[5].kind, special);
    }

    #[test]
    fn whiteouts_are_told_by_their_names() {
        let layer = Layer::new()
            .file("d/.wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .file(".wh..wh..opq", "");
        let (entries, _) = entries(&layer).unwrap();
        let found: Vec<_> = entries
            .into_iter()
            .map(|one| (one.path, one.kind))
            .collect();
        let expected = [
            (path("d/gone"), Kind::Whiteout),
            (path("d"), Kind::Opaque),
            (Vec::new(), Kind::Opaque),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_could_lead_out_of_the_image_is_refused() {
        let climbs = "its name has \"..\" in it, which could lead out of the image";
        for (layer, words) in [
            (Layer::new().file("../x", ""), climbs),
            (Layer::new().file("a/../../x", ""), climbs),
            (Layer::new().file("/..", ""), climbs),
            (
                Layer::new().hard_link("h", "../../etc/shadow"),
                "its target",
            ),
            (Layer::new().file(".wh...", ""), "it hides what has no name"),
            (Layer::new().file("a/.wh.", ""), "it hides what has no name"),
            (
                Layer::new().link("./", "/"),
                "it makes something else than a folder",
            ),
            (
                Layer::new().special("d", b'4', (4096, 0)),
                "its device number",
            ),
            (
                Layer::new().special("s", b'S', (0, 0)),
                "it is a sparse file whose map is damaged",
            ),
            (
                Layer::new().special("s", b'Z', (0, 0)),
                "its type 'Z' is unknown",
            ),
            (
                Layer::new().file(&"n".repeat(256), ""),
                "a part of its name is longer",
            ),
        ] {
            let error = format!("{:#}", entries(&layer).unwrap_err());
            assert!(
                error.starts_with("entry \"") && error.contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn an_archive_without_its_end_is_whole() {
        let layer = Layer::new().file("a", "content");
        let bytes = layer.bytes();
        let read = |bytes: &[u8]| read(bytes, &mut io::Cursor::new(Vec::new()));
        assert_eq!(read(&bytes[..1024]).unwrap().len(), 1);
        assert!(read(&bytes[..515]).is_err());
    }
}
