//! What a folder of the host holds, to compare two of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// All that a program can tell of a file but its times and its number.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    mode: u32,
    links: u64,
    owner: (u32, u32),
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    same_as: PathBuf,
}

/// All files below a folder, itself among them.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut files = BTreeMap::new();
    let mut first_paths = BTreeMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let whole = root.join(&path);
        if fs::symlink_metadata(&whole).unwrap().is_dir() {
            let mut below: Vec<_> = fs::read_dir(&whole)
                .unwrap()
                .map(|entry| path.join(entry.unwrap().file_name()))
                .collect();
            below.sort();
            left.extend(below.into_iter().rev());
        }
        let ino = fs::symlink_metadata(&whole).unwrap().ino();
        let same_as = first_paths.entry(ino).or_insert_with(|| path.clone());
        let facts = facts(&whole, same_as.clone());
        files.insert(path, facts);
    }
    files
}

fn facts(path: &Path, same_as: PathBuf) -> Facts {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
    } else if kind.is_file() {
        fs::read(path).unwrap()
    } else {
        assert!(kind.is_dir() || kind.is_fifo() || kind.is_socket());
        Vec::new()
    };
    Facts {
        mode: stat.mode(),
        links: stat.nlink(),
        owner: (stat.uid(), stat.gid()),
        content,
        attributes: attributes(path),
        same_as,
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = [0; 4096];
    let bytes = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let names = buffer[..bytes].split_inclusive(|byte| *byte == 0);
    let names = names.map(|name| name.strip_suffix(b"\0").unwrap());
    names
        .map(|name| {
            let mut value = [0; 4096];
            let bytes = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..bytes].to_vec())
        })
        .collect()
}
