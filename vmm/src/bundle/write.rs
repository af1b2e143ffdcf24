//! Writing a bundle.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use zerocopy::{FromZeros, IntoBytes};

use super::{Header, MAGIC, PARTS, VERSION};
use crate::memory::PAGE_BYTES;

/// Bytes that are copied at once.
const BLOCK_BYTES: usize = 1 << 20;

/// What a bundle is made of; each is read to its end.
pub struct Parts<'a> {
    /// A vmlinux, or the kernel of the system that brings its own.
    pub kernel: &'a mut dyn Read,
    /// The program that the guest runs first.
    pub init: &'a mut dyn Read,
    /// The app.json.
    pub app: &'a mut dyn Read,
    /// An EROFS; empty for a machine without a store. Of a system that brings its own kernel, what
    /// [`super::StoreNode::File`] counts in.
    pub store: &'a mut dyn Read,
    /// Of such a system alone.
    pub own: Option<OwnParts<'a>>,
}

/// What only a system has that brings its own kernel.
pub struct OwnParts<'a> {
    /// A [`super::SystemPart`], encoded.
    pub system: &'a [u8],
    /// Its stage 1.
    pub initrd: &'a mut dyn Read,
}

/// Writes a bundle to `to`, which is empty. The same parts make the same bytes.
///
/// # Errors
/// A part cannot be read, or `to` not be written.
pub fn write(to: &mut File, parts: Parts<'_>) -> Result<()> {
    let mut header = Header::new_zeroed();
    header.magic = MAGIC;
    header.version = VERSION.into();
    let mut readers = vec![parts.kernel, parts.init, parts.app, parts.store];
    let mut system;
    if let Some(own) = parts.own {
        system = own.system;
        readers.extend([&mut system as &mut dyn Read, own.initrd]);
    }
    header.count = (readers.len() as u32).into();
    let mut next = PAGE_BYTES;
    for ((name, reader), part) in PARTS.iter().zip(readers).zip(&mut header.parts) {
        to.seek(SeekFrom::Start(next))?;
        let (bytes, digest) =
            copy(reader, to).with_context(|| format!("cannot write its {name}"))?;
        part.offset = next.into();
        part.bytes = bytes.into();
        part.digest = digest;
        next = (next + bytes).next_multiple_of(PAGE_BYTES);
    }
    // What was not written reads as zeros.
    to.set_len(next)?;
    header.digest = header.own_digest();
    to.seek(SeekFrom::Start(0))?;
    to.write_all(header.as_bytes())?;
    Ok(())
}

fn copy(from: &mut dyn Read, to: &mut File) -> io::Result<(u64, [u8; 32])> {
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok((bytes, hash.finalize().into())),
            Ok(read) => {
                hash.update(&block[..read]);
                to.write_all(&block[..read])?;
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
