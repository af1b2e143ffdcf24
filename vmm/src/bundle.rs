//! Bundles: a machine in one file, which `mvm build` writes and a host without Nix runs.
//!
//! ```text
//!      0  header, one page:   8  magic, "\x89mvm\r\n\x1a\n"
//!                             4  version, 1
//!                             4  number of parts, 4 or 6
//!                         6×48  of each part: offset, bytes, SHA-256; zeros of one that is not there
//!                                zeros
//!                            32  SHA-256 of the header up to here
//!   4096  kernel       a vmlinux, mapped from here
//!         init         the program that the guest runs first
//!         app.json     as it was written
//!         store        an EROFS, the disk that the guest mounts at /nix/store; may be empty
//! ```
//!
//! A system that brings its own kernel mounts its store itself, as a share of the host. Its bundle has
//!
//! ```text
//!         kernel       its bzImage
//!         store        the contents of the store's files, one behind the other
//!         system       what else is to be known of it, in postcard's form (`SystemPart`)
//!         initrd       its stage 1
//! ```
//!
//! Numbers are little-endian. Each part begins at the page behind the one before it, and the file ends
//! with the page of the last; what is between is zero. So nothing is unpacked: the machine has all of
//! it from this file.
//!
//! The one thing to know: a bundle is not trusted. No offset of it is followed that is not where the
//! part must be, `app.json`, init and `system` are compared with their digests before they are used, and
//! kernel, initrd and store are the guest's, which may be hostile anyway. Those are only compared where
//! somebody asks ([`Bundle::verify`]), for that reads all of the file.

mod system;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use devices::virtio::blk;
use devices::virtio::fs::catalog::Catalog;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::app::MAX_FILE_SIZE;
use crate::memory::PAGE_BYTES;
use crate::window::Window;
pub use system::{Facts, StoreNode, SystemPart};
pub use write::{OwnParts, Parts, write};

/// What the guest finds the store's disk by.
pub const SERIAL: &str = "store";

/// As PNG's: a transfer as text would change it.
const MAGIC: [u8; 8] = *b"\x89mvm\r\n\x1a\n";

/// Of this layout.
const VERSION: u32 = 1;

/// Bytes of an init; mvm's own has less than two million.
const INIT_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a part `system`: a million files have about as many.
const SYSTEM_BYTES_MAX: u64 = 64 << 20;

/// The parts, in their order.
const PARTS: [&str; 6] = ["kernel", "init", "app.json", "store", "system", "initrd"];
const KERNEL: usize = 0;
const INIT: usize = 1;
const APP: usize = 2;
const STORE: usize = 3;
const SYSTEM: usize = 4;
const INITRD: usize = 5;

/// How many of them there are in a bundle without a kernel of a system's.
const FEW_PARTS: usize = 4;

const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = PAGE_BYTES as usize;
const ZEROS: usize = HEADER_BYTES - 16 - PARTS.len() * size_of::<Part>() - DIGEST_BYTES;

#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Part {
    offset: U64,
    bytes: U64,
    digest: [u8; DIGEST_BYTES],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    count: U32,
    parts: [Part; PARTS.len()],
    zeros: [u8; ZEROS],
    digest: [u8; DIGEST_BYTES],
}

impl Header {
    /// What [`Self::digest`] must be.
    fn own_digest(&self) -> [u8; DIGEST_BYTES] {
        Sha256::digest(&self.as_bytes()[..HEADER_BYTES - DIGEST_BYTES]).into()
    }

    /// How many parts there are, unless it is damaged.
    fn count(&self) -> Option<usize> {
        let count = self.count.get() as usize;
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let is_whole = self.digest == self.own_digest()
            && [FEW_PARTS, PARTS.len()].contains(&count)
            && is_zero(self.parts[count..].as_bytes())
            && is_zero(&self.zeros);
        is_whole.then_some(count)
    }
}

/// An open bundle, whose header is sound.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    /// Those that are not there have no bytes.
    parts: [Range<u64>; PARTS.len()],
    digests: [[u8; DIGEST_BYTES]; PARTS.len()],
    count: usize,
}

impl Bundle {
    /// Whether a file begins as a bundle does.
    pub fn is_one(file: &File) -> bool {
        let mut magic = [0; MAGIC.len()];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC
    }

    /// Opens the bundle at `path`; none if something else is there, or nothing.
    ///
    /// # Errors
    /// It is a bundle that is damaged, or of another version.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        match open(path) {
            Ok(file) if Self::is_one(&file) => Self::read(file).map(Some),
            _ => Ok(None),
        }
    }

    /// Opens the bundle at `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is none, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = open(path).map_err(anyhow::Error::from);
        opened
            .and_then(Self::read)
            .with_context(|| format!("cannot use the bundle {}", path.display()))
    }

    /// Reads and checks the header of a file.
    ///
    /// # Errors
    /// It is no bundle, or a damaged one.
    pub fn read(file: File) -> Result<Self> {
        let facts = file.metadata()?;
        ensure!(facts.is_file(), "it is not a regular file");
        ensure!(Self::is_one(&file), "it is nothing that `mvm build` writes");
        let mut header = Header::new_zeroed();
        match file.read_exact_at(header.as_mut_bytes(), 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                bail!("it is cut short: it has {} bytes", facts.len())
            }
            other => other?,
        }
        let version = header.version.get();
        ensure!(
            version == VERSION,
            "it has version {version} of the format, and this mvm reads {VERSION}"
        );
        let count = header.count().context("its header is damaged")?;
        let (parts, whole) = ranges(&header.parts[..count])?;
        ensure_length(facts.len(), whole)?;
        Ok(Self {
            file,
            parts,
            digests: header.parts.map(|part| part.digest),
            count,
        })
    }

    /// The kernel, in its place.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn kernel(&self) -> Result<Window> {
        self.part(KERNEL)
    }

    /// The program that the guest runs first.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn init(&self) -> Result<Vec<u8>> {
        self.content(INIT)
    }

    /// The app.json, as it was written.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    pub fn app(&self) -> Result<Vec<u8>> {
        self.content(APP)
    }

    /// The stage 1 of the system that brings its own kernel; it has no bytes where there is none.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn initrd(&self) -> Result<Window> {
        self.part(INITRD)
    }

    /// What there is to know of the system that brings its own kernel.
    ///
    /// # Errors
    /// There is none in it, it is damaged, or it cannot be read.
    pub fn system(&self) -> Result<SystemPart> {
        ensure!(
            self.count > SYSTEM,
            "it has no system with a kernel of its own"
        );
        SystemPart::decode(&self.content(SYSTEM)?).context("its system is damaged")
    }

    /// The tree of that system's store.
    ///
    /// # Errors
    /// `system` does not go with the store, or the host has no descriptor left.
    pub fn tree(&self, system: &SystemPart) -> Result<Catalog> {
        let (file, range) = self.part(STORE)?.into_file();
        system.tree(file, range).context("its system is damaged")
    }

    /// The disk with the store, for a machine of `vcpus`; none where there is no store in it.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn disk(&self, vcpus: u16) -> Result<Option<blk::Config>> {
        let (file, range) = self.part(STORE)?.into_file();
        Ok((!range.is_empty()).then(|| blk::Config {
            name: "the bundle's store".into(),
            file,
            window: Some(range),
            serial: SERIAL.into(),
            read_only: true,
            vcpus,
            counters: std::sync::Arc::default(),
            rate: None,
        }))
    }

    /// Compares all parts with their digests, which reads all of the file.
    ///
    /// # Errors
    /// One is damaged.
    pub fn verify(&self) -> Result<()> {
        (0..self.count).try_for_each(|nth| {
            let mut hash = Sha256::new();
            let mut reader = self.reader(nth);
            let mut bytes = vec![0; 1 << 20];
            loop {
                match reader.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(read) => hash.update(&bytes[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot read its {}", PARTS[nth]));
                    }
                }
            }
            self.ensure_digest(nth, hash)
        })
    }

    fn part(&self, nth: usize) -> Result<Window> {
        let file = self.file.try_clone()?;
        Ok(Window::part(file, self.parts[nth].clone()))
    }

    fn reader(&self, nth: usize) -> Reader<'_> {
        Reader {
            file: &self.file,
            left: self.parts[nth].clone(),
        }
    }

    /// A part whose length has been checked to be small.
    fn content(&self, nth: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.reader(nth).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read its {}", PARTS[nth]))?;
        self.ensure_digest(nth, Sha256::new_with_prefix(&bytes))?;
        Ok(bytes)
    }

    fn ensure_digest(&self, nth: usize, hash: Sha256) -> Result<()> {
        let digest: [u8; DIGEST_BYTES] = hash.finalize().into();
        ensure!(digest == self.digests[nth], "its {} is damaged", PARTS[nth]);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Without waiting for the other end of a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Where the parts are, each of which has one place where it can be, and the length of the whole.
fn ranges(parts: &[Part]) -> Result<([Range<u64>; PARTS.len()], u64)> {
    let mut ranges = PARTS.map(|_| 0..0);
    let mut next = PAGE_BYTES;
    for (nth, part) in parts.iter().enumerate() {
        let (offset, bytes) = (part.offset.get(), part.bytes.get());
        let name = PARTS[nth];
        ensure!(
            offset == next,
            "its header is damaged: {name} is to be at {offset} instead of {next}"
        );
        let most = match nth {
            INIT => INIT_BYTES_MAX,
            APP => MAX_FILE_SIZE,
            SYSTEM => SYSTEM_BYTES_MAX,
            _ => u64::MAX,
        };
        let end = offset.checked_add(bytes).filter(|_| bytes <= most);
        let end = end.and_then(|end| Some((end, end.checked_next_multiple_of(PAGE_BYTES)?)));
        let (end, following) =
            end.with_context(|| format!("its header is damaged: {name} is to have {bytes} bytes"))?;
        ranges[nth] = offset..end;
        next = following;
    }
    Ok((ranges, next))
}

fn ensure_length(bytes: u64, whole: u64) -> Result<()> {
    ensure!(
        bytes >= whole,
        "it is cut short: it has {bytes} bytes of {whole}"
    );
    ensure!(
        bytes == whole,
        "something stands behind its end: it has {bytes} bytes instead of {whole}"
    );
    Ok(())
}

/// Reads a part from its beginning to its end.
struct Reader<'a> {
    file: &'a File,
    left: Range<u64>,
}

impl Read for Reader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.left.end.saturating_sub(self.left.start);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
        let read = self.file.read_at(&mut to[..most], self.left.start)?;
        self.left.start = self.left.start.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
