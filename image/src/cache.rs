//! The images that were read: their configurations and layers, each known by its digest.
//!
//! ```text
//!  lock            held by who reads, alone by who removes
//!  images/DIGITS   a configuration, whose digest is the image's id
//!  layers/DIGITS/  a layer, by the digest of its archive
//! ```
//!
//! The one thing to know: what has its name is whole. A layer is made in a folder of another name and
//! then renamed, and a configuration comes when its layers are there; so two that read the same
//! image at once do it twice, at worst, and neither waits.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use devices::virtio::fs::catalog::Catalog;
use rustix::fs::{FlockOperation, flock};

use crate::choice::Choice;
use crate::config::{self, Config};
use crate::digest::{Digest, Hashing};
use crate::manifest::{self, Blob, Manifest};
use crate::merge::merge;
use crate::packing::unpacked;
use crate::source::Source;
use crate::tree::{Missing, ROOT, Tree};
use crate::{layer, nix};

const IMAGES: &str = "images";
const LAYERS: &str = "layers";

/// Where each machine has file systems of its kernel's.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

/// What a layer is called until it is whole. No digest begins with a dot.
const UNFINISHED: &str = ".new-";

/// A folder of images.
pub struct Cache {
    folder: PathBuf,
}

/// An image whose layers are in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// How its program is run.
    pub config: Config,
    /// Its layers, the lowest first.
    pub layers: Vec<Digest>,
}

impl Cache {
    /// The cache in `folder`, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self> {
        for name in [IMAGES, LAYERS] {
            let path = folder.join(name);
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .with_context(|| format!("cannot make {}", path.display()))?;
        }
        let folder = folder.into();
        Ok(Self { folder })
    }

    /// Reads the image at `path`, or of several that which is chosen.
    pub fn read(&self, path: &Path, choice: Option<&Choice>) -> Result<Image> {
        let read = || {
            if let Some(list) = nix::List::read(path)? {
                nix::List::ensure_not_chosen(choice)?;
                return self.keep_listed(&list);
            }
            self.keep(&Source::open(path, &self.folder)?, choice)
        };
        let image = read().map_err(|error| self.explained(error));
        image.with_context(|| format!("cannot read image {}", path.display()))
    }

    /// Reads the image that `stream` brings, or of several that which is chosen.
    pub fn read_stream(
        &self,
        stream: impl Read + 'static,
        choice: Option<&Choice>,
    ) -> Result<Image> {
        let source = Source::stream(stream, &self.folder);
        let image = source.and_then(|source| self.keep(&source, choice));
        image
            .map_err(|error| self.explained(error))
            .context("cannot read the image on standard input")
    }

    /// Who has no room left is told where.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let mut causes = error.chain();
        let is_full = causes.any(|cause| {
            let cause = cause.downcast_ref::<std::io::Error>();
            cause.is_some_and(|it| {
                matches!(it.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            })
        });
        if is_full {
            return error.context(format!(
                "there is no room for it in {}",
                self.folder.display()
            ));
        }
        error
    }

    fn keep(&self, source: &Source, choice: Option<&Choice>) -> Result<Image> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let Manifest { config, layers } = manifest::read(source, choice)?;
        let (_, diff_ids) = config::read(&config)?;
        ensure!(
            layers.len() == diff_ids.len(),
            "it has {} layers, and digests of {}",
            layers.len(),
            diff_ids.len()
        );
        for (nth, (blob, diff_id)) in (1..).zip(layers.iter().zip(&diff_ids)) {
            let layer = |to: &Path| unpack(source, blob, diff_id, to);
            self.keep_layer(diff_id, layer)
                .with_context(|| format!("layer {nth}"))?;
        }
        self.keep_config(&config)
    }

    /// Makes an image of store paths.
    fn keep_listed(&self, list: &nix::List) -> Result<Image> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let mut diff_ids = Vec::new();
        for (nth, layer) in (1..).zip(list.layers()) {
            let id = layer.id()?;
            self.keep_layer(&id, |to| layer.make(to))
                .with_context(|| format!("layer {nth}"))?;
            diff_ids.push(id);
        }
        self.keep_config(&list.config(&diff_ids)?)
    }

    /// Has `make` fill the folder of a layer that is not there yet.
    fn keep_layer(&self, id: &Digest, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.path(LAYERS, id);
        if path.is_dir() {
            return Ok(());
        }
        let unfinished = self.unfinished(LAYERS);
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        let done = make(&unfinished).and_then(|()| match fs::rename(&unfinished, &path) {
            // Another one has read the same layer meanwhile.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            done => done.context("cannot keep it"),
        });
        if unfinished.exists() {
            // What is left of it goes with the next that removes images.
            let _ = fs::remove_dir_all(&unfinished);
        }
        done
    }

    fn keep_config(&self, config: &[u8]) -> Result<Image> {
        let id = Digest::of(config);
        let unfinished = self.unfinished(IMAGES);
        fs::write(&unfinished, config).context("cannot keep its configuration")?;
        fs::rename(&unfinished, self.path(IMAGES, &id)).context("cannot keep its configuration")?;
        self.image(&id)
    }

    /// The image of an id.
    pub fn image(&self, id: &Digest) -> Result<Image> {
        let path = self.path(IMAGES, id);
        let config = fs::read(&path)
            .with_context(|| format!("there is no image {id} any more: run its file again"))?;
        ensure!(Digest::of(&config) == *id, "{} is damaged", path.display());
        let (config, layers) = config::read(&config)?;
        let id = id.clone();
        Ok(Image { id, config, layers })
    }

    /// What an image's layers come to, with the folders that its program is to find; and what its user
    /// is to be told of it, a line each.
    pub fn catalog(&self, image: &Image) -> Result<(Catalog, Vec<String>)> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let folders: Vec<_> = image
            .layers
            .iter()
            .map(|one| self.path(LAYERS, one))
            .collect();
        let (mut tree, contained) = merge(folders.iter().map(|folder| layer::entries(folder)))?;
        check_mount_points(&tree)?;
        let working_dir = image.config.working_dir.as_deref();
        for folder in image.config.volumes().chain(working_dir) {
            let path: Vec<Vec<u8>> = folder.split('/').map(Vec::from).collect();
            let layer = folders.len();
            tree.walk(&path, Missing::Make { layer }).with_context(|| {
                format!("cannot make {folder:?}, which its configuration names")
            })?;
        }
        let contents = folders
            .iter()
            .map(|folder| Ok(layer::content(folder)?.into()));
        let catalog = Catalog::new(tree.into_nodes(), contents.collect::<Result<_>>()?)?;
        Ok((catalog, contained.lines()))
    }

    /// Removes all images but those in `keep`, and the layers that none of these has. Tells the ids.
    pub fn prune(&self, keep: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut layers = BTreeSet::new();
        for id in keep {
            // One that is damaged is of no use to who has it.
            layers.extend(self.image(id).map(|image| image.layers).unwrap_or_default());
        }
        let removed = self.sweep(IMAGES, keep, |path| fs::remove_file(path))?;
        self.sweep(LAYERS, &layers, |path| fs::remove_dir_all(path))?;
        Ok(removed)
    }

    /// Removes what has none of the names in `keep`; nobody makes any just now.
    fn sweep(
        &self,
        kind: &str,
        keep: &BTreeSet<Digest>,
        remove: impl Fn(&Path) -> std::io::Result<()>,
    ) -> Result<Vec<Digest>> {
        let folder = self.folder.join(kind);
        let cannot = || format!("cannot clear {}", folder.display());
        let mut removed = Vec::new();
        for entry in fs::read_dir(&folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let name = entry.file_name();
            let id = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
            if id.as_ref().is_ok_and(|id| keep.contains(id)) {
                continue;
            }
            remove(&entry.path()).with_context(cannot)?;
            removed.extend(id.ok());
        }
        removed.sort_unstable();
        Ok(removed)
    }

    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.folder.join("lock");
        let cannot = || format!("cannot lock {}", path.display());
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(cannot)?;
        flock(&file, operation).with_context(cannot)?;
        Ok(file)
    }

    fn path(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.folder.join(kind).join(digest.hex())
    }

    /// A name that nobody else makes: of this process, and of this call.
    fn unfinished(&self, kind: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{}-{call}", std::process::id());
        self.folder.join(kind).join(name)
    }
}

/// Unpacks the layer that `blob` is, both of whose digests are to be right.
fn unpack(source: &Source, blob: &Blob, diff_id: &Digest, to: &Path) -> Result<()> {
    blob.check_type()?;
    let mut packed = Hashing::new(source.open_file(&blob.name)?);
    layer::unpack(unpacked(&mut packed)?, diff_id, to)?;
    match &blob.digest {
        Some(digest) => packed.expect(digest),
        None => Ok(()),
    }
}

/// Refuses an image that has something else where the guest's kernel has its folders.
fn check_mount_points(tree: &Tree) -> Result<()> {
    for name in MOUNT_POINTS {
        let there = tree.child(ROOT, name.as_bytes());
        let is_free = there.is_none_or(|(node, _)| tree.is_folder(node));
        ensure!(
            is_free,
            "the image's /{name} is no folder, and a machine has its own there"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;

#[cfg(all(test, feature = "oracle"))]
mod oracle;
