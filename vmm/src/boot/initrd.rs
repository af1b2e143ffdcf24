//! The initrd of a system that brings its own stage 1.
//!
//! The one thing to know: the kernel unpacks several archives that stand behind each other, compressed
//! or not (Documentation/driver-api/early-userspace/buffer-format.rst), and keeps what it could unpack
//! before one that is damaged. So mvm's archive stands first, and its init can tell what is wrong.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::bundle::Bundle;
use crate::window::Window;

/// What archives begin with: cpio's own forms, then those that Linux unpacks (`lib/decompress.c`).
const MAGICS: [&[u8]; 10] = [
    b"070701",
    b"070702",
    &[0x1f, 0x8b],
    &[0x1f, 0x9e],
    b"BZh",
    &[0x5d, 0],
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
    &[0x89, b'L', b'Z', b'O'],
    &[0x02, 0x21, 0x4c, 0x18],
    &[0x28, 0xb5, 0x2f, 0xfd],
];

/// A file that the kernel unpacks behind mvm's archive.
#[derive(Debug)]
pub struct Initrd {
    /// Where it is.
    pub path: PathBuf,
    pub(super) file: Window,
}

impl Initrd {
    /// Opens the file, or finds it in a bundle.
    ///
    /// # Errors
    /// It cannot be opened, or holds no archive.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::look_at(path).with_context(|| format!("cannot use the initrd {}", path.display()))
    }

    fn look_at(path: &Path) -> anyhow::Result<Self> {
        // Opening a FIFO would wait for its writer.
        ensure!(path.metadata()?.is_file(), "it is not a regular file");
        let file = File::open(path)?;
        let file = if Bundle::is_one(&file) {
            Bundle::read(file)?.initrd()?
        } else {
            Window::whole(file)?
        };
        let mut magic = [0; 6];
        file.read_at(&mut magic, 0)
            .with_context(|| format!("it has only {} bytes", file.bytes()))?;
        ensure!(
            MAGICS.iter().any(|known| magic.starts_with(known)),
            "it is neither a cpio archive nor one in a form that Linux unpacks"
        );
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_archive_is_known_by_its_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd");
        for magic in MAGICS {
            fs::write(&path, [magic, b"and more"].concat()).unwrap();
            assert_eq!(
                Initrd::open(&path).unwrap().file.bytes(),
                magic.len() as u64 + 8
            );
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("initrd");
        let refusal = || {
            let error = format!("{:#}", Initrd::open(&path).unwrap_err());
            let start = format!("cannot use the initrd {}: ", path.display());
            error.strip_prefix(&start).expect(&error).to_owned()
        };
        assert_eq!(refusal(), "No such file or directory (os error 2)");
        fs::create_dir(&path).unwrap();
        assert_eq!(refusal(), "it is not a regular file");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(refusal(), "it has only 0 bytes: it ends too early");
        fs::write(&path, "\x7fELF and more").unwrap();
        assert_eq!(
            refusal(),
            "it is neither a cpio archive nor one in a form that Linux unpacks"
        );
    }
}
