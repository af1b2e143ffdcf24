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
//! use; who makes one removes those that nobody has used for a month, and of the others as many as have
//! to go for all to have room, the longest unused first. Machines that have one mapped keep it until
//! they end.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, DirBuilder, File, FileTimes, Metadata};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::erofs::{self, BLOCK_BYTES};
use super::key::Key;
use super::plan::{Plan, Size, memory_bytes};
use super::tree::Root;
use super::unfinished::{self, Unfinished};

const MAGIC: [u8; 8] = *b"mvmerofs";

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

impl Head {
    /// How large its image is.
    pub fn size(&self) -> Size {
        Size {
            bytes: memory_bytes(self.blocks),
            head_bytes: self.bytes,
            files: self.files.len() as u64,
        }
    }
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

/// Where a head should be that could not be made.
#[derive(Debug)]
pub struct NotMade(PathBuf);

impl Display for NotMade {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make {}", self.0.display())
    }
}

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

    /// The head that is known by `key`, if there is one that is whole.
    pub fn find(&self, key: &Key) -> Option<Head> {
        let head = read(File::open(self.path(key)).ok()?).ok()?;
        // Where it cannot be said, it is made again after a month.
        let now = FileTimes::new().set_modified(SystemTime::now());
        let _ = head.file.set_times(now);
        Some(head)
    }

    /// Makes the head of `plan`, a part of `root`, to be known by `key`. With those that are kept it
    /// takes `most` bytes at most, unless others are made at the same time.
    ///
    /// # Errors
    /// A file of the host cannot be read, or there is no room.
    pub fn make(&self, key: &Key, plan: &Plan, root: &Root, most: u64) -> Result<Head> {
        let path = self.path(key);
        let make = || {
            self.make_room(plan.size().head_bytes, most)?;
            let unfinished = Unfinished::new(&self.folder)?;
            write(plan, root, &unfinished.file)?;
            // What has its name is never looked at as a whole again.
            unfinished.file.sync_data()?;
            unfinished.rename(&path)?;
            read(File::open(&path)?)
        };
        make().map_err(|error| error.context(NotMade(path)))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.as_str())
    }

    /// Removes what nobody needs, and what has to go for `wanted` more bytes to have room among `most`.
    ///
    /// # Errors
    /// They have none, whatever goes.
    fn make_room(&self, wanted: u64, most: u64) -> Result<()> {
        let room = most.checked_sub(wanted);
        let room = room.with_context(|| {
            format!(
                "it has {} MiB, and all that are kept may have {} MiB (storeImagesMib)",
                wanted.div_ceil(1 << 20),
                most >> 20
            )
        })?;
        let (mut kept, mut bytes) = (self.by_use(), 0u64);
        // The latest first.
        while let Some((used, facts, path)) = kept.pop() {
            if unfinished::is_being_made(&path, used) {
                continue;
            }
            let is_unused = used.elapsed().is_ok_and(|age| age > UNUSED_MAX);
            bytes = bytes.saturating_add(facts.len());
            if is_unused || bytes > room || unfinished::is_one(&path) {
                // What cannot be removed is in nobody's way.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// All that is there, with the time of its last use, the latest last.
    fn by_use(&self) -> Vec<(SystemTime, Metadata, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let facts = entry.metadata().ok()?;
                Some((facts.modified().ok()?, facts, entry.path()))
            })
            .collect();
        found.sort_by_key(|(used, ..)| *used);
        found
    }
}

fn write(plan: &Plan, root: &Root, file: &File) -> Result<()> {
    let Plan { tree, layout } = plan;
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
