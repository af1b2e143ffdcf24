//! Which files of an image are its configuration and its layers.
//!
//! An OCI layout has an index of manifests, whose descriptors name blobs by their digests; what
//! `docker save` writes has a list of images, whose files have any names.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::source::Source;

/// Indexes in indexes: one of platforms, in one of names.
const DEPTH_MAX: u32 = 3;

/// An image's parts.
pub struct Manifest {
    /// The configuration.
    pub config: Vec<u8>,
    /// The layers' files, the lowest first.
    pub layers: Vec<Blob>,
}

/// A layer's file.
pub struct Blob {
    /// Its name in the source.
    pub name: String,
    /// Its digest, where something says it.
    pub digest: Option<Digest>,
}

/// An image in what `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest, by what it has.
#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Finds the one image of `source`.
pub fn read(source: &Source) -> Result<Manifest> {
    if source.has("oci-layout") {
        return layout(source);
    }
    if source.has("manifest.json") {
        return saved(source);
    }
    match source {
        Source::Archive(_) => bail!(
            "it has neither manifest.json, as `docker save` writes it, nor oci-layout, as OCI archives have it"
        ),
        Source::Folder(_) => bail!("it is a folder without oci-layout, so no OCI layout"),
    }
}

fn saved(source: &Source) -> Result<Manifest> {
    let images: Vec<Saved> = parse(&source.small("manifest.json")?, "manifest.json")?;
    let [image] = &images[..] else {
        let tags = images
            .iter()
            .flat_map(|image| image.repo_tags.iter().flatten());
        let tags: Vec<_> = tags.map(String::as_str).collect();
        bail!(
            "it holds {} images and not one ({})",
            images.len(),
            tags.join(", ")
        );
    };
    // A folder's names would be paths of the host.
    ensure!(
        matches!(source, Source::Archive(_)),
        "it is a folder with manifest.json: pack it as an archive"
    );
    let layers = image.layers.iter().map(|name| Blob {
        name: name.clone(),
        digest: None,
    });
    Ok(Manifest {
        config: source.small(&image.config)?,
        layers: layers.collect(),
    })
}

fn layout(source: &Source) -> Result<Manifest> {
    let mut document: Document = parse(&source.small("index.json")?, "index.json")?;
    for _ in 0..DEPTH_MAX {
        match document {
            Document {
                manifests: Some(manifests),
                ..
            } => {
                let digest = chosen(&manifests)?;
                document = parse(&blob(source, digest)?, "a manifest")?;
            }
            Document {
                config: Some(config),
                layers: Some(layers),
                ..
            } => {
                let layers = layers.into_iter().map(|layer| Blob {
                    name: blob_name(&layer.digest),
                    digest: Some(layer.digest),
                });
                return Ok(Manifest {
                    config: blob(source, &config.digest)?,
                    layers: layers.collect(),
                });
            }
            _ => bail!("a manifest of it names no layers"),
        }
    }
    bail!("it has indexes in indexes, more than {DEPTH_MAX} deep")
}

/// The one manifest that is for machines. One that says nothing may be.
fn chosen(manifests: &[Descriptor]) -> Result<&Digest> {
    let is_for_machines = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == "amd64",
        None => true,
    };
    let found: Vec<_> = manifests.iter().filter(is_for_machines).collect();
    match &found[..] {
        [one] => Ok(&one.digest),
        [] => bail!("it holds no image for linux/amd64"),
        several => bail!(
            "it holds {} images for linux/amd64 and not one",
            several.len()
        ),
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A small blob, which is what it is called by.
fn blob(source: &Source, digest: &Digest) -> Result<Vec<u8>> {
    let bytes = source.small(&blob_name(digest))?;
    let is = Digest::of(&bytes);
    ensure!(is == *digest, "the digest of blob {digest} is {is}");
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("cannot read {what} of it"))
}
