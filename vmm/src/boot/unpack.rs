//! Modules as packages have them: compressed, which only some kernels undo themselves
//! (`CONFIG_MODULE_DECOMPRESS`; that of NixOS does not).

use std::io::Read;

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use lzma_rust2::XzReader;
use zstd::stream::read::Decoder;

/// Bytes of a module; the largest of a distribution has a fifth.
const MODULE_BYTES_MAX: u64 = 64 << 20;

/// The name and the content of the module in a file called `name`.
///
/// # Errors
/// The file is damaged, or holds more than a module has.
pub fn module(name: &str, packed: Vec<u8>) -> anyhow::Result<(String, Vec<u8>)> {
    let bytes = &*packed;
    let (name, content) = match name.rsplit_once('.') {
        Some((name, "xz")) => (name, limited(XzReader::new(bytes, false))),
        Some((name, "gz")) => (name, limited(GzDecoder::new(bytes))),
        Some((name, "zst")) => (
            name,
            Decoder::new(bytes).map_err(Into::into).and_then(limited),
        ),
        _ => return Ok((name.to_owned(), packed)),
    };
    Ok((name.to_owned(), content.context("cannot unpack it")?))
}

fn limited(packed: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    packed
        .take(MODULE_BYTES_MAX + 1)
        .read_to_end(&mut content)?;
    ensure!(!content.is_empty(), "it holds nothing");
    ensure!(
        content.len() as u64 <= MODULE_BYTES_MAX,
        "it has more than {} MiB",
        MODULE_BYTES_MAX >> 20
    );
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "module", as `xz --check=crc32`, gzip and zstd write it.
    const XZ: &[u8] = b"\xfd7zXZ\0\0\x01i\x22\xde6\x02\0!\x01\x10\0\0\0\xa8p\x8e\x86\x01\0\x05module\0\0\0(&$\x0c\0\x01\x1a\x06\xc5\xea\xc8y\x90B\x99\x0d\x01\0\0\0\0\x01YZ";
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xcb\xcdO)\xcdI\x05\0(&$\x0c\x06\0\0\0";
    const ZSTD: &[u8] = b"(\xb5/\xfd$\x061\0\0module]\x89\xa9\x8d";

    #[test]
    fn each_form_is_known_by_its_name() {
        for (name, packed) in [("a.ko.xz", XZ), ("a.ko.gz", GZIP), ("a.ko.zst", ZSTD)] {
            let unpacked = module(name, packed.to_vec()).unwrap();
            assert_eq!(unpacked, ("a.ko".into(), b"module".to_vec()), "{name}");
        }
        let plain = module("a.ko", XZ.to_vec()).unwrap();
        assert_eq!(plain, ("a.ko".into(), XZ.to_vec()));
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_refused() {
        for (name, packed) in [("a.ko.xz", XZ), ("a.ko.gz", GZIP), ("a.ko.zst", ZSTD)] {
            for end in 0..packed.len() {
                assert!(
                    module(name, packed[..end].to_vec()).is_err(),
                    "{name} {end}"
                );
            }
            assert!(module(name, b"\x7fELF".to_vec()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let error = limited(std::io::repeat(0)).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 64 MiB");
    }
}
