//! Container images as machines: what `docker run` makes of an image, as an [`App`].
//!
//! The one thing to know: an image's file is read when a machine is made from it, and from then on
//! the machine's app.json has its id, and all that the image says of its program. So a machine that is
//! kept starts without the file, and `mvm prune` keeps what it needs. Of several in a file, which one
//! it is stands behind its path.

mod config;
mod named;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use image::{Cache, Image, find, is_archive, is_image, is_layout};
use vmm::app::{App, AppFile, IMAGE_ID, Port, RootKind};
use vmm::closure::{STORE_DIR, StorePath, StoreView};
use vmm::{machine, state, toplevel};

use crate::output::say;
use crate::progress::Progress;
use named::{is_called_archive, name_of, placed};

pub use named::path_of;

/// Reads the file to run: an app.json, with what it leaves to its image, or an image or a system as what
/// one would be.
pub fn load(name: &Path) -> Result<AppFile> {
    let (path, choice) = placed(name)?;
    let choice = choice.as_ref();
    if path == Path::new("-") {
        // What is looked at is read again by who reads it.
        let mut stdin = io::stdin().lock();
        let beginning = stdin.fill_buf().context("cannot read standard input")?;
        let is_archive = is_archive(beginning);
        drop(stdin);
        if !is_archive {
            ensure!(choice.is_none(), "standard input is no image");
            return load_file(path);
        }
        let image = told(|| cache()?.read_stream(io::stdin(), choice))?;
        return file_of(&image, &name_of(path, choice));
    }
    if let Some(app) = toplevel::app_of(path) {
        let name = app.name.clone();
        return AppFile::of(app, &name);
    }
    if is_image(path) {
        let image = told(|| cache()?.read(path, choice))?;
        return file_of(&image, &name_of(path, choice));
    }
    ensure!(
        choice.is_none(),
        "{} holds no images of which one could be chosen",
        path.display()
    );
    if is_root_folder(path) {
        let mut app = App::new(name_of(path, None), Vec::new());
        let folder = std::path::absolute(path)?;
        app.image = Some(text(&folder)?.into());
        return AppFile::of(app, &name_of(path, None));
    }
    ensure!(
        !(path.is_file() && is_called_archive(path)),
        "{} is no image: it does not begin as an archive does, nor as a packed one",
        path.display()
    );
    load_file(path)
}

/// Reads an image, and tells on the terminal that it does if that takes long.
fn told(read: impl FnOnce() -> Result<Image>) -> Result<Image> {
    let progress = Progress::start();
    progress.tell("reading the image");
    read()
}

fn load_file(path: &Path) -> Result<AppFile> {
    let mut file = AppFile::load(path)?;
    complete(&mut file.app)?;
    Ok(file)
}

/// Gives `app` what it leaves to its image, if it has one.
///
/// # Errors
/// The image cannot be read, or does not go with what `app` says.
pub fn complete(app: &mut App) -> Result<()> {
    Images::default().complete(app)
}

/// Images that several machines may be of: each is read once.
#[derive(Default)]
pub struct Images(BTreeMap<String, Image>);

impl Images {
    /// As [`complete`].
    ///
    /// # Errors
    /// As there.
    pub fn complete(&mut self, app: &mut App) -> Result<()> {
        let Some(name) = app.image.clone() else {
            return Ok(());
        };
        if is_root_folder(Path::new(&name)) {
            return Ok(());
        }
        let image = match self.0.entry(name) {
            Entry::Occupied(image) => image.into_mut(),
            Entry::Vacant(place) => {
                let image = read(place.key())?;
                place.insert(image)
            }
        };
        fill_in(app, image)
    }
}

/// Whether an app.json can name this image, as far as can be seen without its layers.
///
/// # Errors
/// It cannot; says why.
pub fn look(name: &str) -> Result<()> {
    if name.starts_with(IMAGE_ID) {
        // Who never ran an image has no folder of them, and gets none by looking.
        ensure!(folder()?.exists(), "there is no image {name}");
        return read(name).map(drop);
    }
    if is_root_folder(Path::new(name)) {
        return Ok(());
    }
    let (path, choice) = placed(Path::new(name))?;
    image::look(path, choice.as_ref())
}

/// The image that an app.json names: by its id, or by its file and its name there.
fn read(name: &str) -> Result<Image> {
    if !name.starts_with(IMAGE_ID) {
        let (path, choice) = placed(Path::new(name))?;
        return told(|| cache()?.read(path, choice.as_ref()));
    }
    let id = name.parse().map_err(anyhow::Error::msg);
    cache()?.image(&id.context("image")?)
}

/// Has `app` run what its file, its image and the command line come to, with the folders in memory that
/// it needs beside those that they name.
///
/// # Errors
/// None of them says a program, or the image cannot be read.
pub fn settle(app: &mut App) -> Result<()> {
    let program = &mut app.app;
    // Without an entrypoint the first of the arguments is the program.
    if program.entrypoint.is_empty() && !program.args.is_empty() {
        program.entrypoint = vec![program.args.remove(0)];
    }
    ensure!(
        app.image.is_none() || !program.entrypoint.is_empty(),
        "the image says no program to run; name one behind \"--\", or as app.entrypoint"
    );
    add_folders(app)
}

/// The ports that the image of `app` says its program serves, and that nothing leads to yet.
///
/// # Errors
/// There is no image that could say any.
pub fn exposed_ports(app: &App) -> Result<Vec<Port>> {
    let image = app.image.as_deref();
    let image = image.filter(|name| !is_root_folder(Path::new(name)));
    let image = read(image.context("there is no image to say which ports its program serves")?)?;
    let ports = image.config.exposed_ports();
    let ports = ports.map(config::port).collect::<Result<Vec<_>>>()?;
    let is_new = |port: &Port| {
        let mut there = app.ports.iter();
        !there.any(|one| (one.guest, one.protocol) == (port.guest, port.protocol))
    };
    Ok(ports.into_iter().filter(is_new).collect())
}

/// Has `app` have in memory what its image says to be written to and nothing else is mounted at, where
/// nothing can be written to its root.
///
/// # Errors
/// The image cannot be read, or says what no machine can have.
fn add_folders(app: &mut App) -> Result<()> {
    let image = app.image.as_deref().filter(|_| app.root.read_only);
    if let Some(name) = image.filter(|name| !is_root_folder(Path::new(name))) {
        let image = read(name)?;
        // What is wrong before is not the image's, and told by who knows whose it is.
        let is_good = app.check().is_empty();
        config::add_folders(app, &image.config);
        if is_good {
            return ensure_good(app);
        }
    }
    Ok(())
}

/// Whether `path` is a root file system as it is.
fn is_root_folder(path: &Path) -> bool {
    path.is_dir() && !is_layout(path)
}

fn text(path: &Path) -> Result<&str> {
    let text = path.to_str();
    text.with_context(|| format!("cannot run {}: its path is no text", path.display()))
}

/// What a machine's root is made of.
pub struct RootFs {
    image: machine::Image,
    store_paths: BTreeSet<StorePath>,
}

impl RootFs {
    /// That of `app.image`.
    pub fn open(image: &str, kind: RootKind) -> Result<Self> {
        if kind == RootKind::Folder {
            let folder = Path::new(image);
            ensure!(folder.is_dir(), "root.type: {image} is not a folder");
            return Ok(Self {
                image: machine::Image::Root(folder.into()),
                store_paths: BTreeSet::new(),
            });
        }
        if is_root_folder(Path::new(image)) {
            return Ok(Self::of_folder(Path::new(image)));
        }
        let (catalog, lines) = cache()?.catalog(&read(image)?)?;
        for line in lines {
            say(format_args!("{line}"));
        }
        let store_paths = find::names(&catalog, STORE_DIR).filter_map(store_path);
        Ok(Self {
            store_paths: store_paths.collect(),
            image: machine::Image::Tree(Arc::new(catalog)),
        })
    }

    fn of_folder(folder: &Path) -> Self {
        let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|stat| stat.is_dir());
        // A link could lead to the host's own store, all of which the machine would see.
        let nix = folder.join("nix");
        let store = nix.join("store");
        let has_store = is_folder(&nix) && is_folder(&store);
        let entries = has_store.then(|| fs::read_dir(store).ok()).flatten();
        let names = entries.into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        Self {
            store_paths: names.filter_map(|name| store_path(&name)).collect(),
            image: machine::Image::Folder(folder.into()),
        }
    }

    /// For the machine.
    pub fn image(&self) -> machine::Image {
        self.image.clone()
    }

    /// The store paths that it has, whether this host has them or not.
    pub fn store_paths(&self) -> &BTreeSet<StorePath> {
        &self.store_paths
    }

    /// What the machine sees of the host's store, and whether beside it what only the image has there.
    /// Of a path that both have the host's is seen and nothing of the image's.
    pub fn share_store(&mut self, app: &App, roots: &BTreeSet<StorePath>) -> (StoreView, bool) {
        let view = StoreView::of_image(app, roots, &self.store_paths);
        let is_in_view = |path: &StorePath| match &view {
            StoreView::Closure(closure) => closure.contains(path),
            StoreView::All => path.exists(),
            StoreView::None | StoreView::Bundle(_) => false,
        };
        if view == StoreView::None || self.store_paths.iter().all(is_in_view) {
            return (view, false);
        }
        let machine::Image::Tree(catalog) = &mut self.image else {
            // Of a folder nothing can be hidden, so all of its store is its own.
            return (StoreView::None, false);
        };
        if let Some(catalog) = Arc::get_mut(catalog) {
            let is_hosts = |name: &str| store_path(name).is_some_and(|path| is_in_view(&path));
            find::hide(catalog, STORE_DIR, is_hosts);
        }
        (view, true)
    }
}

fn store_path(name: &str) -> Option<StorePath> {
    format!("{STORE_DIR}/{name}").parse().ok()
}

/// Removes the images that none of `apps` is of. A machine in the foreground has its image open.
pub fn prune<'a>(apps: impl Iterator<Item = &'a App>) -> Result<()> {
    // Who never ran an image has no folder of them, and gets none by looking for what can go.
    if !folder()?.exists() {
        return Ok(());
    }
    let ids = apps.filter_map(|app| app.image.as_deref()?.parse().ok());
    cache()?.prune(&ids.collect()).map(drop)
}

/// Images are kept as machines are, which are started from them again.
fn cache() -> Result<Cache> {
    Cache::open(&folder()?)
}

fn folder() -> Result<PathBuf> {
    Ok(state::folder()?.join("images"))
}

fn file_of(image: &Image, name: &str) -> Result<AppFile> {
    let mut app = App::new(name, Vec::new());
    fill_in(&mut app, image)?;
    AppFile::of(app, name)
}

/// Has `app` be one of the image, which says what `app` does not.
fn fill_in(app: &mut App, image: &Image) -> Result<()> {
    app.image = Some(image.id.to_string());
    let ids = |user: &str| find::ids(&cache()?.catalog(image)?.0, user);
    config::fill_in(app, &image.config, ids)?;
    ensure_good(app)
}

/// What is wrong with `app` is what the image says.
fn ensure_good(app: &App) -> Result<()> {
    match app.check().first() {
        Some(complaint) => bail!("as the image has it, {complaint}"),
        None => Ok(()),
    }
}
