//! Which files of an image are its configuration and its layers.
//!
//! An OCI layout has an index of manifests, whose descriptors name blobs by their digests; what
//! `docker save` writes has a list of images, whose files have any names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::source::Source;

/// Indexes in indexes: one of platforms, in one of names.
const DEPTH_MAX: u32 = 3;

/// Media types of configurations, of which some say nothing.
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// The annotation with an image's name in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

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
    /// What it is, where something says it.
    pub media_type: Option<String>,
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
    media_type: Option<String>,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Platform {
    fn is_for_machines(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }

    /// What buildx says of what it attests, which is no image.
    fn is_unknown(&self) -> bool {
        self.os == "unknown"
    }
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
        media_type: None,
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
                if let Some(kind) = &config.media_type {
                    ensure!(
                        CONFIGS.contains(&kind.as_str()),
                        "it is no container image: its configuration is {kind:?}"
                    );
                }
                let layers = layers.into_iter().map(|layer| Blob {
                    name: blob_name(&layer.digest),
                    digest: Some(layer.digest),
                    media_type: layer.media_type,
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
    let platform =
        |descriptor: &Descriptor| descriptor.platform.as_ref().map(Platform::is_for_machines);
    let found: Vec<_> = manifests
        .iter()
        .filter(|one| platform(one) != Some(false))
        .collect();
    let listed = |words: BTreeSet<String>| words.into_iter().collect::<Vec<_>>().join(", ");
    match &found[..] {
        [one] => Ok(&one.digest),
        [] => {
            let others = manifests.iter().filter_map(|one| one.platform.as_ref());
            let others = others.filter(|one| !one.is_unknown());
            let others = others.map(|one| format!("{}/{}", one.os, one.architecture));
            bail!(
                "it holds no image for linux/amd64 (but for: {})",
                listed(others.collect())
            )
        }
        several => {
            let names = several
                .iter()
                .filter_map(|one| one.annotations.as_ref()?.get(NAME));
            bail!(
                "it holds {} images for linux/amd64 and not one ({})",
                several.len(),
                listed(names.cloned().collect())
            )
        }
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

impl Blob {
    /// Whether it can be an archive.
    ///
    /// # Errors
    /// Its type says that it is none, or one that only who has a key can read.
    pub fn check_type(&self) -> Result<()> {
        let Some(kind) = &self.media_type else {
            return Ok(());
        };
        ensure!(!kind.ends_with("+encrypted"), "it is encrypted");
        ensure!(kind.contains("tar"), "it is no archive, but {kind:?}");
        Ok(())
    }
}
