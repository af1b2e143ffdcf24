//! The closure of an [`App`]: the store paths it names and all that these refer to, which is what
//! the machine may see of the store.
//!
//! A file made by Nix is in the store itself, and its own references are exactly those of its
//! program; of any other file, all store paths in its text count. The references come from the
//! first of: the list in `store.closure`, the Nix database, `nix-store -qR`.

mod database;
#[cfg(test)]
mod fixture;
mod in_use;
mod list;
mod nix_store;
mod registration;
mod store_path;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};

use crate::app::{App, AppFile, StoreMode};
use database::Answer;
pub use in_use::InUse;
pub use store_path::{STORE_DIR, StorePath};

/// Store paths in a closure; a whole desktop system has some thousands.
pub const MAX_PATHS: usize = 1 << 18;

/// How much of the store a machine sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreView {
    /// There is no store in it.
    None,
    /// All of it.
    All,
    /// These paths.
    Closure(Closure),
    /// None of it, but the store of this bundle.
    Bundle(PathBuf),
}

impl StoreView {
    /// What `app` asks for, whose file names these [`roots`], worked out on this host.
    pub fn of(app: &App, roots: &BTreeSet<StorePath>) -> anyhow::Result<Self> {
        if let (Some(bundle), StoreMode::Closure) = (&app.bundle, app.store.mode) {
            return Ok(Self::Bundle(bundle.clone()));
        }
        match app.store.mode {
            StoreMode::None => Ok(Self::None),
            StoreMode::All => Ok(Self::All),
            StoreMode::Closure => {
                Closure::resolve(app, roots, &Nix::of_this_host()).map(Self::Closure)
            }
        }
    }

    /// What a machine sees whose root is an image with `in_image` in its store: of these, and of what
    /// the file names, all that this host has. The image's own show where the host has none.
    pub fn of_image(
        app: &App,
        roots: &BTreeSet<StorePath>,
        in_image: &BTreeSet<StorePath>,
    ) -> Self {
        match app.store.mode {
            StoreMode::None => return Self::None,
            StoreMode::All => return Self::All,
            StoreMode::Closure => {}
        }
        let named = roots.union(in_image).cloned();
        let here: BTreeSet<_> = named.filter(StorePath::exists).collect();
        match Closure::on_this_host(here, &Nix::of_this_host()) {
            closure if closure.paths.is_empty() => Self::None,
            closure => Self::Closure(closure),
        }
    }
}

/// Store paths, and who said that they are all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    paths: Vec<StorePath>,
    source: Source,
}

/// Who said what belongs to a closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody: no store path is named, so none belongs to it.
    NoRoots,
    /// The image, which has all that its paths refer to.
    Image,
    /// The file that `store.closure` names, or that is in the folder that it names.
    List(PathBuf),
    /// The Nix database.
    Database(PathBuf),
    /// `nix-store -qR`, this program.
    NixStore(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoots => f.write_str("no store path is named"),
            Self::Image => f.write_str("the image"),
            Self::List(file) => write!(f, "the list {}", file.display()),
            Self::Database(file) => write!(f, "the Nix database {}", file.display()),
            Self::NixStore(program) => write!(f, "{} -qR", program.display()),
        }
    }
}

/// Where a host has its Nix.
#[derive(Clone, Debug)]
pub struct Nix {
    /// The database.
    pub database: PathBuf,
    /// The folders to search for `nix-store`, as in `PATH`.
    pub search_path: OsString,
}

impl Nix {
    /// By `NIX_STATE_DIR` and `PATH`.
    pub fn of_this_host() -> Self {
        let state = std::env::var_os("NIX_STATE_DIR").filter(|folder| !folder.is_empty());
        let state = state.map_or_else(|| PathBuf::from("/nix/var/nix"), PathBuf::from);
        Self {
            database: state.join("db/db.sqlite"),
            search_path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }
}

/// The store paths that a file names: itself if it is in the store, else all in its text. What has
/// been added to the [`App`] since it was read counts in either case.
pub fn roots(file: &AppFile) -> BTreeSet<StorePath> {
    let all_in = |texts: &[&str]| -> BTreeSet<StorePath> {
        texts
            .iter()
            .flat_map(|text| StorePath::all_in(text))
            .collect()
    };
    let in_text = all_in(&file.strings());
    // Of an App with a path that is no text nothing has been added: the file held only text.
    let now = serde_json::to_string(&file.app).unwrap_or_default();
    let added: BTreeSet<_> = all_in(&[&now]).difference(&in_text).cloned().collect();
    let real_path = file.path().and_then(|path| path.canonicalize().ok());
    let mut roots = match real_path.and_then(|path| StorePath::containing(&path)) {
        Some(itself) => BTreeSet::from([itself]),
        None => in_text,
    };
    roots.extend(added);
    roots
}

impl Closure {
    /// The closure of `roots`, by the first source that knows it.
    pub fn resolve(app: &App, roots: &BTreeSet<StorePath>, nix: &Nix) -> anyhow::Result<Self> {
        if let Some(file) = &app.store.closure {
            return Self::listed(app, file);
        }
        let Some(first) = roots.first() else {
            return Ok(Self {
                paths: Vec::new(),
                source: Source::NoRoots,
            });
        };
        let mut tried = Vec::new();
        let mut unknown = None;
        if nix.database.exists() {
            match database::requisites(&nix.database, roots) {
                Ok(Answer::Requisites(paths)) => {
                    return Ok(Self::sorted(paths, Source::Database(nix.database.clone())));
                }
                Ok(Answer::Unknown(paths)) => {
                    tried.push(format!("{} does not know it", nix.database.display()));
                    unknown = paths.into_iter().next();
                }
                Err(error) => tried.push(format!("{error:#}")),
            }
        } else {
            tried.push(format!("there is no database {}", nix.database.display()));
        }
        match nix_store::find(&nix.search_path) {
            Some(program) => match nix_store::requisites(&program, roots) {
                Ok(paths) => return Ok(Self::sorted(paths, Source::NixStore(program))),
                Err(error) => tried.push(format!("{error:#}")),
            },
            None => tried.push("there is no nix-store in PATH".into()),
        }
        let root = unknown.as_ref().unwrap_or(first);
        let tried = tried.join("; ");
        Err(anyhow!(
            "cannot find the closure of {root}: {tried}; {}",
            what_to_do(root)
        ))
    }

    /// What belongs to those of `paths` that are valid, as far as the database says; without one, the
    /// paths alone: an image has all that they refer to.
    fn on_this_host(mut paths: BTreeSet<StorePath>, nix: &Nix) -> Self {
        // The second time all are known, unless Nix has just collected one.
        for _ in 0..2 {
            match database::requisites(&nix.database, &paths) {
                Ok(Answer::Requisites(all)) => {
                    return Self::sorted(all, Source::Database(nix.database.clone()));
                }
                Ok(Answer::Unknown(unknown)) => paths.retain(|path| !unknown.contains(path)),
                Err(_) => break,
            }
        }
        Self::sorted(paths.into_iter().collect(), Source::Image)
    }

    /// The closure that a file lists.
    fn listed(app: &App, file: &Path) -> anyhow::Result<Self> {
        let file = &list::of(file);
        let closure = Self::sorted(list::read(file)?, Source::List(file.into()));
        let program = app.program();
        let entrypoint = program.entrypoint.first().map_or("", String::as_str);
        if let Some(root) = StorePath::containing(Path::new(entrypoint))
            && !closure.contains(&root)
        {
            bail!(
                "{} does not list {root}, where app.entrypoint is",
                file.display()
            );
        }
        if let Some(gone) = closure.paths.iter().find(|path| !path.exists()) {
            bail!(
                "{} lists {gone}, which this host does not have; {}",
                file.display(),
                bring_back(gone)
            );
        }
        Ok(closure)
    }

    fn sorted(mut paths: Vec<StorePath>, source: Source) -> Self {
        paths.sort_unstable();
        paths.dedup();
        Self { paths, source }
    }

    /// What Nix knows of its paths, as `nix-store --load-db` reads it: by the host's database, or else
    /// by whoever said what belongs to the closure, a `nix-store` or the file that `closureInfo` makes
    /// beside its list.
    ///
    /// # Errors
    /// Nobody knows all of them.
    pub fn registration(&self, nix: &Nix) -> anyhow::Result<String> {
        let by_database = match database::registration(&nix.database, &self.paths) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        match &self.source {
            Source::List(list) => {
                let file = list::registration(list);
                if !file.exists() {
                    let file = file.display();
                    let tried =
                        format!("{by_database:#}; there is no {file}, as closureInfo makes");
                    bail!("cannot tell what Nix knows of the closure: {tried}");
                }
                registration::read(&file, &self.paths)
            }
            Source::NixStore(program) => nix_store::registration(program, &self.paths),
            _ => Err(by_database),
        }
    }

    /// The paths, sorted, each once.
    pub fn paths(&self) -> &[StorePath] {
        &self.paths
    }

    /// Whether a path belongs to it.
    pub fn contains(&self, path: &StorePath) -> bool {
        self.paths.binary_search(path).is_ok()
    }

    /// Who said so.
    pub const fn source(&self) -> &Source {
        &self.source
    }
}

/// What a user can do about a root whose closure no source knows.
fn what_to_do(root: &StorePath) -> String {
    if root.exists() {
        "name a file with one store path a line, or a folder of closureInfo's, in store.closure, or set store.mode to \"all\""
            .into()
    } else {
        bring_back(root)
    }
}

fn bring_back(path: &StorePath) -> String {
    format!(
        "if it was built here and garbage-collected since, `nix-store --realise {path}` may bring it back"
    )
}
