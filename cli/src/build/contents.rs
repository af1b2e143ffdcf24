//! The store of a system that brings its own kernel, as a bundle has it: the tree as data, and the files'
//! contents one behind the other.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec;

use anyhow::{Context, Result};
use vmm::bundle::StoreNode;
use vmm::closure::{STORE_DIR, StorePath};

use super::Interrupt;
use super::walk::{Kind, PROGRAM_MODE, walk};

/// What the contents are read from: files, and the length that each had when the tree was made.
type Files = Vec<(PathBuf, u64)>;

/// The tree of `paths`, which are sorted, and its files.
///
/// # Errors
/// Something cannot be read, or the user has lost patience.
pub fn tree(paths: &[StorePath], interrupt: &Interrupt) -> Result<(Vec<StoreNode>, Files)> {
    let mut nodes = vec![StoreNode::Folder(Vec::new())];
    let mut folders = HashMap::from([(PathBuf::from(STORE_DIR), 0)]);
    let (mut files, mut offset) = (Vec::new(), 0);
    for path in paths {
        walk(Path::new(path.as_str()), &mut |from, kind| {
            interrupt.check()?;
            let number = nodes.len();
            nodes.push(match kind {
                Kind::Folder => {
                    folders.insert(from.to_owned(), number);
                    StoreNode::Folder(Vec::new())
                }
                Kind::Link(target) => StoreNode::Link(target.as_os_str().as_bytes().into()),
                Kind::File { bytes, mode } => {
                    let begin = offset;
                    offset += bytes;
                    files.push((from.to_owned(), *bytes));
                    StoreNode::File {
                        is_program: *mode == PROGRAM_MODE,
                        offset: begin,
                        bytes: *bytes,
                    }
                }
            });
            let (above, name) = (from.parent(), from.file_name().unwrap_or_default());
            let above = above.and_then(|above| folders.get(above));
            if let Some(StoreNode::Folder(names)) = above.and_then(|nth| nodes.get_mut(*nth)) {
                names.push((name.as_bytes().into(), u32::try_from(number)?));
            }
            Ok(())
        })?;
    }
    Ok((nodes, files))
}

/// Reads files one behind the other.
pub struct Contents<'a> {
    files: vec::IntoIter<(PathBuf, u64)>,
    /// The one that is being read, and what is left of it.
    open: Option<(io::Take<File>, PathBuf)>,
    interrupt: &'a Interrupt,
}

impl<'a> Contents<'a> {
    /// Those of `files`.
    pub fn of(files: Files, interrupt: &'a Interrupt) -> Self {
        Self {
            files: files.into_iter(),
            open: None,
            interrupt,
        }
    }

    fn next(&mut self) -> Result<bool> {
        self.interrupt.check()?;
        let Some((path, bytes)) = self.files.next() else {
            return Ok(false);
        };
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        self.open = Some((file.take(bytes), path));
        Ok(true)
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((file, path)) = &mut self.open {
                let read = file.read(to)?;
                if read > 0 || to.is_empty() {
                    return Ok(read);
                }
                if file.limit() > 0 {
                    let words = format!("{} has become shorter", path.display());
                    return Err(io::Error::other(words));
                }
            }
            if !self
                .next()
                .map_err(|error| io::Error::other(format!("{error:#}")))?
            {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn contents_are_read_one_behind_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str, bytes: u64| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            (path, bytes)
        };
        let files = vec![
            file("a", "one", 3),
            file("b", "", 0),
            // What has become longer meanwhile is not.
            file("c", "two and more", 3),
        ];
        let interrupt = Interrupt::listen().unwrap();
        let mut text = String::new();
        let mut contents = Contents::of(files, &interrupt);
        contents.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");

        let short = file("d", "x", 2);
        let words = format!("{} has become shorter", short.0.display());
        let mut contents = Contents::of(vec![short], &interrupt);
        let error = contents.read_to_string(&mut text).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
}
