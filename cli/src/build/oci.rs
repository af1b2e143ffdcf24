//! An OCI archive (image specification 1.1) of an app.json: its closure as layers.
//!
//! The one thing to know: a store path is in a layer of its own, as long as there are not too many, so
//! that images with the same path have the same layer, which registries and engines keep once.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use vmm::closure::StorePath;

use super::config::{CREATED, config, left_out};
use super::layer::{Layer, of_root, of_store};
use super::walk::{Kind, walk};
use super::{Interrupt, Work, closure};
use crate::output::say;

/// Layers of one image. Engines stack up to 127, and images that are made from this one have some of
/// their own.
const LAYERS_MAX: usize = 100;

/// Characters of a name in an archive.
const TAG_CHARACTERS_MAX: usize = 255;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What the image is called that is to be called `wanted`, or else by the machine's `name`.
///
/// # Errors
/// It can be no name of an image.
pub fn tag(wanted: Option<&str>, name: &str) -> Result<String> {
    let wanted = wanted.unwrap_or(name);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let is_good = wanted.starts_with(|c: char| c.is_ascii_alphanumeric())
        && wanted.chars().all(is_plain)
        && wanted.len() <= TAG_CHARACTERS_MAX;
    ensure!(
        is_good,
        "--tag: must be a name such as web or web:1.0, is {wanted:?}"
    );
    // A colon before the last slash is that of a port.
    let has_tag = wanted
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    Ok(if has_tag {
        wanted.into()
    } else {
        format!("{wanted}:latest")
    })
}

/// Makes one that is called `tag`; returns its length in bytes.
///
/// # Errors
/// Something cannot be read or written.
pub fn archive(mut work: Work<'_>, tag: &str) -> Result<u64> {
    let app = &work.file.app;
    work.progress.tell("packing the closure");
    let beside = work.target.folder().to_path_buf();
    let mut layers = vec![of_root(app, &beside)?];
    for paths in groups(closure(work.file)?.unwrap_or_default(), &work.interrupt)? {
        layers.push(of_store(&paths, &beside, &work.interrupt)?);
    }
    let config = json!({
        "created": CREATED,
        "architecture": "amd64",
        "os": "linux",
        "config": config(app),
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>() },
        "history": layers.iter().map(|_| json!({ "created": CREATED, "created_by": "mvm build" })).collect::<Vec<_>>(),
    });
    work.progress.tell("writing the image");
    let shown = work.target.path().display().to_string();
    write(work.target.file(), &mut layers, &config, tag)
        .with_context(|| format!("cannot write {shown}"))?;
    work.interrupt.check()?;
    let bytes = work.target.keep()?;
    drop(work.progress);
    let left_out = left_out(app);
    if !left_out.is_empty() {
        say(format_args!(
            "an image says nothing of {}: give the engine flags for that",
            left_out.join(", ")
        ));
    }
    Ok(bytes)
}

/// The store paths of each layer: the largest have one of their own, all others the last.
fn groups(paths: Vec<StorePath>, interrupt: &Interrupt) -> Result<Vec<Vec<StorePath>>> {
    let mut sized = Vec::new();
    for path in paths {
        interrupt.check()?;
        let mut sum = 0;
        walk(Path::new(path.as_str()), &mut |_, kind| {
            if let Kind::File { bytes, .. } = kind {
                sum += bytes;
            }
            Ok(())
        })?;
        sized.push((sum, path));
    }
    Ok(grouped(sized))
}

fn grouped(mut sized: Vec<(u64, StorePath)>) -> Vec<Vec<StorePath>> {
    sized.sort_by(|(one, one_path), (other, other_path)| {
        other.cmp(one).then_with(|| one_path.cmp(other_path))
    });
    // One is the root's, and one for what does not fit.
    let rest = sized.split_off(sized.len().min(LAYERS_MAX - 2));
    let mut groups: Vec<_> = sized.into_iter().map(|(_, path)| vec![path]).collect();
    let mut rest: Vec<_> = rest.into_iter().map(|(_, path)| path).collect();
    if !rest.is_empty() {
        rest.sort_unstable();
        groups.push(rest);
    }
    groups
}

fn write(to: &mut std::fs::File, layers: &mut [Layer], config: &Value, tag: &str) -> Result<()> {
    let mut archive = Archive {
        tar: Builder::new(to),
        blobs: HashSet::new(),
    };
    archive.put(
        "oci-layout",
        json!({ "imageLayoutVersion": "1.0.0" })
            .to_string()
            .as_bytes(),
    )?;
    let mut described = Vec::new();
    for layer in layers {
        archive.blob(&layer.digest, layer.bytes, &mut layer.file)?;
        described.push(descriptor(LAYER, &layer.digest, layer.bytes));
    }
    let config = archive.json(CONFIG, config)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described,
    });
    let mut manifest = archive.json(MANIFEST, &manifest)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    archive.put("index.json", index.to_string().as_bytes())?;
    archive.tar.finish()?;
    Ok(())
}

fn descriptor(kind: &str, digest: &Digest, bytes: u64) -> Value {
    json!({ "mediaType": kind, "digest": digest.to_string(), "size": bytes })
}

struct Archive<'a> {
    tar: Builder<&'a mut std::fs::File>,
    /// Those that are in it already.
    blobs: HashSet<Digest>,
}

impl Archive<'_> {
    fn json(&mut self, kind: &str, value: &Value) -> Result<Value> {
        let text = value.to_string();
        let digest = Digest::of(text.as_bytes());
        self.blob(&digest, text.len() as u64, &mut text.as_bytes())?;
        Ok(descriptor(kind, &digest, text.len() as u64))
    }

    fn blob(&mut self, digest: &Digest, bytes: u64, content: &mut dyn Read) -> Result<()> {
        if !self.blobs.insert(digest.clone()) {
            return Ok(());
        }
        self.add(&format!("blobs/sha256/{}", digest.hex()), bytes, content)
    }

    fn put(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.add(name, content.len() as u64, &mut &*content)
    }

    fn add(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes);
        Ok(self.tar.append_data(&mut header, name, content)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_a_tag() {
        for (wanted, expected) in [
            (None, "web:latest"),
            (Some("shop/web"), "shop/web:latest"),
            (Some("web:1.0"), "web:1.0"),
            (Some("localhost:5000/web"), "localhost:5000/web:latest"),
        ] {
            assert_eq!(tag(wanted, "web").unwrap(), expected);
        }
        for bad in ["", ":1", "a b", "-web", "../web", "web\n"] {
            let error = tag(Some(bad), "web").unwrap_err();
            let expected = format!("--tag: must be a name such as web or web:1.0, is {bad:?}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_largest_have_layers_of_their_own() {
        let path = |nth: u64| -> StorePath {
            let name = format!("/nix/store/{nth:032}-p");
            name.parse().unwrap()
        };
        let paths = |count: u64| (0..count).map(|nth| (nth / 2, path(nth))).collect();
        let few = grouped(paths(3));
        assert_eq!(few, [vec![path(2)], vec![path(0)], vec![path(1)]]);
        assert_eq!(grouped(paths(98)).len(), 98);
        let many = grouped(paths(200));
        assert_eq!(many.len(), LAYERS_MAX - 1);
        assert_eq!(many[98].len(), 102);
        assert!(many[98].is_sorted());
        assert!(grouped(Vec::new()).is_empty());
    }
}
