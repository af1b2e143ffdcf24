//! Which files of an image are its configuration and its layers.
//!
//! An OCI layout has an index of manifests, whose descriptors name blobs by their digests; what
//! `docker save` writes has a list of images, whose files have any names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::choice::{Candidate, Choice, choose};
use crate::digest::Digest;
use crate::source::Source;

/// Indexes in indexes: one of platforms, in one of names.
const DEPTH_MAX: u32 = 3;

/// Media types of configurations, of which some say nothing.
const CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// Annotations with an image's name in a layout: the whole of it as containerd and Docker have it, and
/// what the specification has, which often is a tag alone.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

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
    /// What of that architecture it needs beyond the least.
    variant: Option<String>,
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

/// Finds the image of `source` that is chosen, or the only one.
pub fn read(source: &Source, choice: Option<&Choice>) -> Result<Manifest> {
    if source.has("oci-layout") {
        return layout(source, choice);
    }
    if source.has("manifest.json") {
        return saved(source, choice);
    }
    match source {
        Source::Archive(_) => bail!(
            "it has neither manifest.json, as `docker save` writes it, nor oci-layout, as OCI archives have it"
        ),
        Source::Folder(_) => bail!("it is a folder without oci-layout, so no OCI layout"),
    }
}

fn saved(source: &Source, choice: Option<&Choice>) -> Result<Manifest> {
    let images: Vec<Saved> = parse(&source.small("manifest.json")?, "manifest.json")?;
    let candidates = images.iter().enumerate().map(|(place, image)| Candidate {
        place,
        names: image
            .repo_tags
            .iter()
            .flatten()
            .map(String::as_str)
            .collect(),
        what: (&image.config, &image.layers),
    });
    let candidates: Vec<_> = candidates.collect();
    let (config, layers) = choose(&candidates, choice)?.what;
    // A folder's names would be paths of the host.
    ensure!(
        matches!(source, Source::Archive(_)),
        "it is a folder with manifest.json: pack it as an archive"
    );
    let layers = layers.iter().map(|name| Blob {
        name: name.clone(),
        digest: None,
        media_type: None,
    });
    Ok(Manifest {
        config: source.small(config)?,
        layers: layers.collect(),
    })
}

fn layout(source: &Source, choice: Option<&Choice>) -> Result<Manifest> {
    let mut document: Document = parse(&source.small("index.json")?, "index.json")?;
    if let Some(images) = &document.manifests {
        let image = chosen(images, choice)?;
        document = parse(&blob(source, image)?, "a manifest")?;
    }
    for _ in 0..DEPTH_MAX {
        match document {
            Document {
                manifests: Some(manifests),
                ..
            } => {
                let image = for_machines(&manifests)?;
                document = parse(&blob(source, image)?, "a manifest")?;
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

/// The image that is chosen, or the only one that is for machines. One that says nothing may be.
fn chosen<'a>(images: &'a [Descriptor], choice: Option<&Choice>) -> Result<&'a Digest> {
    let is_asked = |place| choice == Some(&Choice::Place(place));
    let candidates = images.iter().enumerate();
    let candidates =
        candidates.filter(|(place, one)| is_asked(*place) || one.may_be_for_machines());
    let candidates: Vec<_> = candidates
        .map(|(place, one)| Candidate {
            place,
            names: one.names(),
            what: &one.digest,
        })
        .collect();
    ensure!(!candidates.is_empty(), no_image(images));
    Ok(choose(&candidates, choice)?.what)
}

/// Of one image for several platforms that of machines: the first, and one that needs no more than each
/// of them has.
fn for_machines(platforms: &[Descriptor]) -> Result<&Digest> {
    let good = platforms.iter().filter(|one| one.may_be_for_machines());
    let least = good.min_by_key(|one| one.platform.as_ref().is_some_and(|is| is.variant.is_some()));
    let least = least.with_context(|| no_image(platforms))?;
    Ok(&least.digest)
}

/// What is said where none of these is for machines.
fn no_image(platforms: &[Descriptor]) -> String {
    let others = platforms.iter().filter_map(|one| one.platform.as_ref());
    let others = others.filter(|one| !one.is_unknown());
    let others: BTreeSet<_> = others
        .map(|one| format!("{}/{}", one.os, one.architecture))
        .collect();
    let others = others.into_iter().collect::<Vec<_>>().join(", ");
    format!("it holds no image for linux/amd64 (but for: {others})")
}

impl Descriptor {
    fn may_be_for_machines(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_none_or(Platform::is_for_machines)
    }

    fn names(&self) -> Vec<&str> {
        let annotations = self.annotations.iter();
        let names = annotations.flat_map(|one| NAMES.iter().filter_map(|name| one.get(*name)));
        names.map(String::as_str).collect()
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
