//! A look at an image, which reads none of its layers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::choice::Choice;
use crate::packing::{is_packed, unpacked};
use crate::source::{BEGINNING_BYTES, Source, is_archive};
use crate::{config, manifest, nix};

/// Whether what is at `path` can be an image, or has the one that is chosen: that it has a manifest and a configuration that can be
/// read, for machines like ours, and all of its layers. Of a packed archive only the beginning is
/// read: all else would take as long as a start.
///
/// # Errors
/// It is none; says why.
pub fn look(path: &Path, choice: Option<&Choice>) -> Result<()> {
    let cannot = || format!("cannot read image {}", path.display());
    look_at(path, choice).with_context(cannot)
}

fn look_at(path: &Path, choice: Option<&Choice>) -> Result<()> {
    if nix::List::read(path)?.is_some() {
        return nix::List::ensure_not_chosen(choice);
    }
    if path.is_file() && is_packed(&beginning(File::open(path)?)?) {
        let unpacked = beginning(unpacked(File::open(path)?)?)?;
        ensure!(is_archive(&unpacked), "what is packed in it is no archive");
        return Ok(());
    }
    let source = Source::open_plain(path)?;
    let found = manifest::read(&source, choice)?;
    let (_, layers) = config::read(&found.config)?;
    ensure!(
        found.layers.len() == layers.len(),
        "it has {} layers, and digests of {}",
        found.layers.len(),
        layers.len()
    );
    for (nth, layer) in (1..).zip(&found.layers) {
        let name = &layer.name;
        ensure!(source.has(name), "layer {nth}, {name:?}, is not in it");
    }
    Ok(())
}

fn beginning(file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(BEGINNING_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::testing::{Layer, archive, bzip2, docker_archive, oci_files, write, xz};

    /// The error's words, if there is one, for a file of these bytes.
    fn words(bytes: &[u8]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        fs::write(&path, bytes).unwrap();
        let error = look(&path, None).err()?;
        let words = format!("{error:#}");
        let start = format!("cannot read image {}: ", path.display());
        Some(words.strip_prefix(&start).unwrap().into())
    }

    fn layers() -> [Layer; 2] {
        [Layer::new().file("a", "one"), Layer::new().file("b", "two")]
    }

    #[test]
    fn images_of_each_format_are_good() {
        let files = oci_files(&layers(), &json!({}), |bytes| (bytes.into(), ""));
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &files);
        look(folder.path(), None).unwrap();
        assert_eq!(words(&archive(&files)), None);
        let saved = docker_archive(&layers(), &json!({}));
        assert_eq!(words(&saved), None);
        for packed in [
            zstd::encode_all(&saved[..], 0).unwrap(),
            xz(&saved),
            bzip2(&saved),
        ] {
            assert_eq!(words(&packed), None);
        }
    }

    #[test]
    fn what_is_no_image_is_told_without_its_layers() {
        let other = Layer::new().file("a", "one").bytes();
        let neither = "it has neither manifest.json,";
        assert!(words(&other).unwrap().starts_with(neither));
        let packed = zstd::encode_all(&b"{}"[..], 0).unwrap();
        let text = "what is packed in it is no archive";
        assert_eq!(words(&packed).as_deref(), Some(text));
        let mut files = oci_files(&layers(), &json!({}), |bytes| (bytes.into(), ""));
        // The second layer, behind the configuration and the first.
        let (name, _) = files.remove(2);
        let missing = format!("layer 2, {name:?}, is not in it");
        assert_eq!(words(&archive(&files)), Some(missing));
    }
}
