//! Where an image comes from: an archive, in a file or a stream and packed or not, or a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::OFlags;

use crate::archive::Archive;
use crate::nix;
use crate::packing::{MAGIC_BYTES, is_packed, unpacked};
use crate::walk::CUT_OFF;

/// Bytes of a manifest or a configuration: registries take no more than 4 MiB.
pub const SMALL_BYTES_MAX: u64 = 4 << 20;

/// Bytes of an archive that comes packed or as a stream.
const SPOOL_BYTES_MAX: u64 = 256 << 30;

/// At its place in a header (`TMAGIC`).
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Bytes at the beginning of a file that tell whether it is an archive: a header of one.
pub const BEGINNING_BYTES: u64 = 512;

/// Whether a file that begins so is an archive. An app.json is text.
pub fn is_archive(beginning: &[u8]) -> bool {
    let (at, magic) = TAR;
    beginning
        .get(at..)
        .is_some_and(|rest| rest.starts_with(magic))
        || is_packed(beginning)
}

/// Whether the folder at `path` is an OCI layout.
pub fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file()
}

/// Whether `path` is an image that layers are read from, and neither an app.json nor a root file
/// system.
pub fn is_image(path: &Path) -> bool {
    if path.is_dir() {
        return is_layout(path);
    }
    // What is read from a pipe is gone for who reads it next.
    if !path.is_file() {
        return false;
    }
    if nix::List::read(path).is_ok_and(|list| list.is_some()) {
        return true;
    }
    let mut beginning = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(BEGINNING_BYTES).read_to_end(&mut beginning));
    read.is_ok() && is_archive(&beginning)
}

/// An image's files.
pub enum Source {
    /// In an archive.
    Archive(Archive),
    /// In a folder, an OCI layout.
    Folder(PathBuf),
}

impl Source {
    /// The image at `path`. What is packed is unpacked to a file in `spool`, which has no name.
    pub fn open(path: &Path, spool: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::open_plain(path);
        }
        let mut file = File::open(path)?;
        let mut beginning = [0; MAGIC_BYTES];
        let bytes = file.read(&mut beginning)?;
        file.rewind()?;
        if !is_packed(&beginning[..bytes]) {
            return Self::open_plain(path);
        }
        Self::spooled(unpacked(file)?, spool)
    }

    /// The image at `path`, which is not packed.
    pub fn open_plain(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.into()));
        }
        Ok(Self::Archive(Archive::new(File::open(path)?)?))
    }

    /// The image that `stream` brings.
    pub fn stream(stream: impl Read + 'static, spool: &Path) -> Result<Self> {
        Self::spooled(unpacked(stream)?, spool)
    }

    fn spooled(stream: impl Read, folder: &Path) -> Result<Self> {
        let path = folder.join(format!(".stream-{}", std::process::id()));
        let cannot = || format!("cannot make {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&path).with_context(cannot)?;
        fs::remove_file(&path).with_context(cannot)?;
        let copied = io::copy(&mut stream.take(SPOOL_BYTES_MAX + 1), &mut file);
        let bytes = copied.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => anyhow!(CUT_OFF),
            _ => anyhow!(error).context("cannot unpack the archive"),
        })?;
        ensure!(
            bytes <= SPOOL_BYTES_MAX,
            "the archive has more than {SPOOL_BYTES_MAX} bytes"
        );
        file.rewind()?;
        Ok(Self::Archive(Archive::new(file)?))
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Archive(archive) => archive.has(name),
            Self::Folder(folder) => folder.join(name).is_file(),
        }
    }

    /// Opens a file. In a folder it is one that a manifest cannot name at will: a name of ours, or
    /// one made of a digest.
    pub fn open_file(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::Archive(archive) => Ok(Box::new(archive.open(name)?)),
            Self::Folder(folder) => {
                let path = folder.join(name);
                let cannot = || format!("cannot open {}", path.display());
                // A FIFO would be waited for.
                let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
                let mut options = OpenOptions::new();
                let file = options.read(true).custom_flags(flags).open(&path);
                let file = file.with_context(cannot)?;
                ensure!(file.metadata()?.is_file(), "{}: it is no file", cannot());
                Ok(Box::new(file))
            }
        }
    }

    /// The whole of a small file.
    pub fn small(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_file(name)?;
        file.take(SMALL_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > SMALL_BYTES_MAX {
            bail!("{name:?} of the image has more than {SMALL_BYTES_MAX} bytes");
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::gzip;

    #[test]
    fn an_app_json_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(!is_image(&path));
        for (bytes, expected) in [
            (b"{ \"version\": 1 }".to_vec(), false),
            (Vec::new(), false),
            (crate::testing::Layer::new().file("a", "b").bytes(), true),
            (gzip(b"x"), true),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(is_image(&path), expected);
        }
        assert!(!is_image(folder.path()));
        fs::write(folder.path().join("oci-layout"), "{}").unwrap();
        assert!(is_image(folder.path()));
    }
}
