//! An image's archive: where in it each file is.
//!
//! The one thing to know: it is walked once, by its headers alone, since the manifest comes last
//! where an archive is made as a stream. Names are looked up as they are written, and lead to bytes
//! of this file, so that no name of it is a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use tar::EntryType;

use crate::walk::{CUT_OFF, Source, Walk};

/// Files of one archive: a layer has three or four.
const MEMBERS_MAX: usize = 1 << 16;

/// Links from one file of it to the next: skopeo has one for each layer.
const LINKS_MAX: usize = 8;

/// An archive, and where its files are.
pub struct Archive {
    file: File,
    members: BTreeMap<Vec<u8>, Member>,
}

enum Member {
    Part {
        begin: u64,
        bytes: u64,
    },
    /// The name of another one.
    Link(Vec<u8>),
}

impl Archive {
    /// Walks the archive in `file`, which begins where that does.
    pub fn new(file: File) -> Result<Self> {
        let mut members = BTreeMap::new();
        let mut walk = Walk::new(Whole::of(&file)?);
        while let Some(head) = walk.next()? {
            let name = resolved(&[], &head.name);
            let member = match (head.header.entry_type(), head.target()) {
                (EntryType::Regular | EntryType::Continuous, _) if head.sparse.is_none() => {
                    Member::Part {
                        begin: head.begin,
                        bytes: head.bytes,
                    }
                }
                (EntryType::Symlink, Some(target)) => {
                    let folder = name.rsplitn(2, |byte| *byte == b'/').nth(1);
                    Member::Link(resolved(folder.unwrap_or_default(), &target))
                }
                (EntryType::Link, Some(target)) => Member::Link(resolved(&[], &target)),
                _ if head.sparse.is_some() => {
                    let shown = String::from_utf8_lossy(&name).into_owned();
                    bail!("{shown:?} of the archive is a sparse file; pack it as it is");
                }
                _ => continue,
            };
            members.insert(name, member);
            ensure!(
                members.len() <= MEMBERS_MAX,
                "the archive has more than {MEMBERS_MAX} files"
            );
        }
        Ok(Self { file, members })
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(&resolved(&[], name.as_bytes()))
    }

    /// The bytes of a file.
    pub fn open(&self, name: &str) -> Result<Part<'_>> {
        let mut key = resolved(&[], name.as_bytes());
        for _ in 0..LINKS_MAX {
            match self.members.get(&key) {
                Some(Member::Part { begin, bytes }) => {
                    let (file, begin, bytes) = (&self.file, *begin, *bytes);
                    return Ok(Part { file, begin, bytes });
                }
                Some(Member::Link(target)) => key.clone_from(target),
                None => bail!("the archive has no {name:?}"),
            }
        }
        bail!("{name:?} of the archive is a link that leads round in a circle")
    }
}

/// A name as it is looked up: without what says nothing, seen from `folder` unless it is absolute.
fn resolved<'a>(folder: &'a [u8], name: &'a [u8]) -> Vec<u8> {
    let base = if name.starts_with(b"/") { &[] } else { folder };
    let mut parts: Vec<&[u8]> = Vec::new();
    let parts_of = |path: &'a [u8]| path.split(|byte| *byte == b'/');
    for part in parts_of(base).chain(parts_of(name)) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// All of a file, in which what is passed over is not read.
struct Whole<'a> {
    file: &'a File,
    position: u64,
    bytes: u64,
}

impl<'a> Whole<'a> {
    fn of(file: &'a File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let position = 0;
        Ok(Self {
            file,
            position,
            bytes,
        })
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(to, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Source for Whole<'_> {
    fn skip(&mut self, bytes: u64) -> Result<()> {
        let end = self.position.checked_add(bytes);
        let end = end.filter(|end| *end <= self.bytes);
        self.position = end.context(CUT_OFF)?;
        Ok(())
    }
}

/// A part of a file, from its beginning to its end.
pub struct Part<'a> {
    file: &'a File,
    begin: u64,
    bytes: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.bytes)
            .unwrap_or(usize::MAX)
            .min(to.len());
        let bytes = self.file.read_at(&mut to[..most], self.begin)?;
        self.begin += bytes as u64;
        self.bytes -= bytes as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::Layer;

    fn archive(layer: &Layer) -> Archive {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&layer.bytes()).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        Archive::new(file).unwrap()
    }

    fn read(archive: &Archive, name: &str) -> Result<String> {
        let mut text = String::new();
        archive.open(name)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_file_is_found_by_any_of_its_names() {
        let layer = Layer::new()
            .folder("./")
            .file("./a", "one")
            .file("d/b", "two")
            .link("d/layer.tar", "../a")
            .link("top", "/d/b");
        let archive = archive(&layer);
        for (name, content) in [
            ("a", "one"),
            ("./a", "one"),
            ("d/layer.tar", "one"),
            ("top", "two"),
        ] {
            assert_eq!(read(&archive, name).unwrap(), content);
        }
        assert!(archive.has("d/b") && !archive.has("b"));
    }

    #[test]
    fn names_that_climb_stay_in_the_archive() {
        let layer = Layer::new()
            .link("out", "../../../etc/hostname")
            .link("round", "round");
        let archive = archive(&layer);
        let error = |name| read(&archive, name).unwrap_err().to_string();
        assert_eq!(error("out"), "the archive has no \"out\"");
        assert_eq!(
            error("/etc/hostname"),
            "the archive has no \"/etc/hostname\""
        );
        assert!(error("round").ends_with("leads round in a circle"));
    }
}
