//! Heads of file systems that were made, each a file that is known by the closure it is of.
//!
//! ```text
//! the head, whole blocks        mapped as it is
//! which file is at which block  in postcard's form
//! a footer                      how long both are, and a digest of the second
//! ```
//!
//! The one thing to know: what has its name is whole. It is made under another one and then renamed, so
//! two that make the same at once do it twice, and neither waits. A file that was damaged since, as far
//! as its length, its superblock and its list show it, is made anew. A file's time is that of its last
//! use; who makes one removes those that nobody has used for a month. Machines that have one mapped keep
//! it until they end.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, FileTimes};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::erofs::{self, BLOCK_BYTES, Layout, Tree};
use super::tree::Root;

/// Of all that decides what a tree is written as: another one makes other files.
const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"mvmerofs";

/// What a file is called until it is whole.
const UNFINISHED: &str = ".new-";

/// Files that nobody has used for so long are removed.
const UNUSED_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Bytes of a list: of a million files it has about as many.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// A large file of a store, and where it is in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its path below the store.
    pub path: Vec<u8>,
    /// Its first block.
    pub block: u32,
    /// Its size.
    pub bytes: u64,
}

/// A head with the list of what belongs behind it.
#[derive(Debug)]
pub struct Head {
    /// The file, which begins with it.
    pub file: File,
    /// Its length, in whole blocks.
    pub bytes: u64,
    /// Blocks of the whole file system.
    pub blocks: u64,
    /// The files behind it, in the order of their blocks.
    pub files: Vec<Placed>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Footer {
    head_bytes: U64,
    blocks: U64,
    list_bytes: U64,
    digest: [u8; 32],
    magic: [u8; 8],
}

const FOOTER_BYTES: u64 = size_of::<Footer>() as u64;

/// A folder of heads.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: PathBuf) -> Result<Self> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The head of the file system with these entries of `root`. If there is none yet, it is made.
    ///
    /// # Errors
    /// A file of the host cannot be read, or there is no room.
    pub fn get(&self, root: &Root, names: &BTreeSet<&str>) -> Result<Head> {
        let mut key = Sha256::new();
        key.update(VERSION.to_le_bytes());
        for name in names {
            let (inode, seconds, nanoseconds) = root.mark(name)?;
            key.update(format!("{name} {inode} {seconds} {nanoseconds}\n"));
        }
        let mut digits = String::new();
        for byte in key.finalize() {
            write!(digits, "{byte:02x}")?;
        }
        let path = self.folder.join(digits);
        if let Some(head) = File::open(&path).ok().and_then(|file| read(file).ok()) {
            // Where it cannot be said, it is made again after a month.
            let now = FileTimes::new().set_modified(SystemTime::now());
            let _ = head.file.set_times(now);
            return Ok(head);
        }
        self.make(root, names, &path)
            .with_context(|| format!("cannot make {}", path.display()))
    }

    fn make(&self, root: &Root, names: &BTreeSet<&str>, path: &Path) -> Result<Head> {
        self.remove_unused();
        let tree = root.tree(names)?;
        let layout = Layout::of(&tree)?;
        let unfinished = Unfinished::new(&self.folder)?;
        write(&tree, &layout, root, &unfinished.file)?;
        unfinished.rename(path)?;
        read(File::open(path)?)
    }

    /// Removes what nobody needs. What cannot be removed is in nobody's way.
    fn remove_unused(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let used = entry.metadata().and_then(|facts| facts.modified());
            let age = used.ok().and_then(|used| used.elapsed().ok());
            if age.is_some_and(|age| age > UNUSED_MAX) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A file that is removed unless it gets its name.
struct Unfinished {
    file: File,
    path: PathBuf,
}

impl Unfinished {
    fn new(folder: &Path) -> Result<Self> {
        // Of this process and this thread alone.
        let id = rustix::thread::gettid().as_raw_nonzero();
        let path = folder.join(format!("{UNFINISHED}{}-{id}", std::process::id()));
        let file = File::create(&path)?;
        Ok(Self { file, path })
    }

    /// Gives it its name once the disk has it: what has its name is never looked at as a whole again.
    fn rename(self, to: &Path) -> Result<()> {
        self.file.sync_data()?;
        Ok(fs::rename(&self.path, to)?)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

fn write(tree: &Tree, layout: &Layout, root: &Root, file: &File) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    erofs::write(tree, layout, |path| root.file(path), &mut out)?;
    let extents = tree.extents.iter().enumerate();
    let large = extents.filter(|(_, extent)| !extent.is_small());
    let files: Vec<Placed> = large
        .map(|(nth, extent)| Placed {
            path: extent.path.clone(),
            block: layout.extent(nth),
            bytes: extent.bytes,
        })
        .collect();
    let list = postcard::to_stdvec(&files)?;
    out.write_all(&list)?;
    let footer = Footer {
        head_bytes: (layout.head_blocks() * BLOCK_BYTES).into(),
        blocks: layout.blocks().into(),
        list_bytes: (list.len() as u64).into(),
        digest: Sha256::digest(&list).into(),
        magic: MAGIC,
    };
    out.write_all(footer.as_bytes())?;
    Ok(out.flush()?)
}

/// Reads a file of the cache, unless it is damaged.
fn read(file: File) -> Result<Head> {
    let length = file.metadata()?.len();
    let mut footer = Footer::new_zeroed();
    let at = length
        .checked_sub(FOOTER_BYTES)
        .context("it is cut short")?;
    file.read_exact_at(footer.as_mut_bytes(), at)?;
    let (bytes, blocks) = (footer.head_bytes.get(), footer.blocks.get());
    let list_bytes = footer.list_bytes.get();
    let mut parts = [bytes, list_bytes, FOOTER_BYTES].into_iter();
    let whole = parts.try_fold(0u64, u64::checked_add);
    ensure!(
        footer.magic == MAGIC
            && whole == Some(length)
            && bytes >= BLOCK_BYTES
            && bytes.is_multiple_of(BLOCK_BYTES)
            && list_bytes <= LIST_BYTES_MAX,
        "it is damaged"
    );
    let mut first = [0; BLOCK_BYTES as usize];
    file.read_exact_at(&mut first, 0)?;
    ensure!(erofs::is_whole(&first, blocks), "its superblock is damaged");
    let mut list = vec![0; usize::try_from(list_bytes)?];
    file.read_exact_at(&mut list, bytes)?;
    ensure!(
        Sha256::digest(&list)[..] == footer.digest,
        "its list is damaged"
    );
    let files: Vec<Placed> = postcard::from_bytes(&list)?;
    Ok(Head {
        file,
        bytes,
        blocks,
        files,
    })
}
