//! `mvm run --dry-run`: what would be done, without doing it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use vmm::app::{App, AppFile, StoreData};
use vmm::closure::{StorePath, StoreView, roots};
use vmm::store::{Auto, Choice};

use crate::accel::{Accel, Place, is_inside};
use crate::commands::create;
use crate::machines::Machine;
use crate::output::print_json;
use crate::{init_binary, places};

/// All that is known of a machine before it is started.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan<'a> {
    name: String,
    /// Whether one of that name goes first.
    replaces: bool,
    accel: Chosen,
    kernel: PathBuf,
    /// What init is copied from, a file or a bundle.
    init: PathBuf,
    store: Store,
    /// How its bytes would come to the machine, if KVM and the kernel can; none if it has none of the
    /// host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_data: Option<StoreData>,
    /// Why so, unless the file says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_data_reason: Option<String>,
    folders: Folders,
    /// The file, with the flags.
    app: &'a App,
}

/// What the machine would run on.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Chosen {
    Kvm,
    /// Why.
    Emulated(String),
}

/// What of the store it would see.
#[derive(Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
enum Store {
    None,
    All,
    Bundle {
        path: PathBuf,
    },
    Closure {
        /// Who says what belongs to it.
        source: String,
        paths: usize,
        /// Content of its files.
        bytes: u64,
    },
}

#[derive(Serialize)]
struct Folders {
    /// Of the machine that runs; none if that is the emulated host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<PathBuf>,
    /// Of machines that are kept, and of volumes.
    state: PathBuf,
}

/// Prints the plan for a machine that would be called `name`, or by its file's name and a number.
///
/// # Errors
/// The machine could not be started.
pub fn print(
    file: &AppFile,
    name: Option<&str>,
    replaces: bool,
    accel: Option<Accel>,
) -> Result<ExitCode> {
    file.check_host()?;
    let name = match name {
        None => create::free_name(&file.app.name)?,
        Some(name) => name.to_owned(),
    };
    let taken = Machine::named(&name);
    let is_taken = taken.is_running || taken.record.is_some();
    if is_taken && !replaces {
        bail!("there is a machine {name} already; --replace has it go first");
    }
    let place = Accel::place(accel)?;
    let runtime = places::runtime().join(&name);
    let roots = roots(file);
    let view = StoreView::of(&file.app, &roots)?;
    let is_emulated = place != Place::Here || is_inside();
    let kernel = vmm::kernel::of(&file.app)?;
    let (store_data, store_data_reason) = data(&file.app, &view, &roots, &kernel, is_emulated);
    print_json(&Plan {
        name,
        replaces: is_taken,
        folders: Folders {
            runtime: (place == Place::Here).then_some(runtime),
            state: places::state()?,
        },
        accel: match place {
            Place::Here => Chosen::Kvm,
            Place::EmulatedHost { reason } => Chosen::Emulated(reason),
        },
        kernel,
        init: init_binary::of(&file.app)?,
        store: Store::of(&view)?,
        store_data,
        store_data_reason,
        app: &file.app,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How the bytes of a machine's store would come to it, and why unless its file says it.
fn data(
    app: &App,
    view: &StoreView,
    roots: &BTreeSet<StorePath>,
    kernel: &Path,
    is_emulated: bool,
) -> (Option<StoreData>, Option<String>) {
    if matches!(view, StoreView::None | StoreView::Bundle(_)) {
        return (None, None);
    }
    if app.store.data != StoreData::Auto {
        return (Some(app.store.data), None);
    }
    match Auto::of(app, view, roots, kernel, is_emulated).map(|mut auto| auto.choice()) {
        Ok(Choice { data, reason }) => (Some(data), Some(reason)),
        Err(error) => (Some(StoreData::Plain), Some(format!("{error:#}"))),
    }
}

impl Store {
    fn of(view: &StoreView) -> Result<Self> {
        Ok(match view {
            StoreView::None => Self::None,
            StoreView::All => Self::All,
            StoreView::Bundle(path) => Self::Bundle { path: path.clone() },
            StoreView::Closure(closure) => {
                let mut bytes = 0;
                for path in closure.paths() {
                    let path = Path::new(path.as_str());
                    bytes += size(path)
                        .with_context(|| format!("cannot look into {}", path.display()))?;
                }
                Self::Closure {
                    source: closure.source().to_string(),
                    paths: closure.paths().len(),
                    bytes,
                }
            }
        })
    }
}

/// Bytes of the files in a tree.
fn size(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut waiting = vec![path.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                waiting.push(entry?.path());
            }
        } else if metadata.is_file() {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/one"), [0; 1000]).unwrap();
        fs::write(at("a/b/two"), [0; 24]).unwrap();
        std::os::unix::fs::symlink(at("a/one"), at("a/link")).unwrap();
        assert_eq!(size(folder.path()).unwrap(), 1024);
        assert_eq!(size(&at("a/b/two")).unwrap(), 24);
        assert!(size(&at("none")).is_err());
    }
}
