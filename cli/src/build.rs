//! What `mvm build` makes of an app.json: a bundle, or an OCI archive.
//!
//! The one thing to know: the same app.json, closure and programs make the same bytes, whoever makes
//! them and wherever. So no time, owner, order of a folder or mode beyond what Nix keeps is in them.

mod bundle;
mod config;
mod contents;
mod erofs;
mod interrupt;
mod layer;
mod oci;
mod target;
mod tree;
mod walk;

use anyhow::{Context, Result, bail};
use vmm::app::{AppFile, Complaint, Place, Problems, StoreMode};
use vmm::closure::{StorePath, StoreView, roots};
use vmm::toplevel::ensure_bootable;

pub use bundle::bundle;
pub use interrupt::Interrupt;
pub use oci::{archive, tag};
pub use target::Target;

use crate::progress::Progress;

/// What is made of something, and where one can see that it is.
pub struct Work<'a> {
    /// The app.json.
    pub file: &'a AppFile,
    /// The file that it goes to.
    pub target: Target,
    /// Whether the user has lost patience.
    pub interrupt: Interrupt,
    /// What is being done.
    pub progress: Progress,
}

/// Refuses what is neither a program nor a system of the store's.
///
/// # Errors
/// It is something that cannot be taken along so.
pub fn ensure_stored(file: &AppFile, is_image: bool) -> Result<()> {
    let app = &file.app;
    if let Some(system) = &app.system {
        ensure_bootable(system).context("system.kernel")?;
    }
    let root = Place::root;
    let refused = [
        (app.bundle.is_some(), root(), "is of a bundle already"),
        (
            app.image.is_some(),
            root().key("image"),
            "has all that its program needs; `mvm build` is for programs of the store",
        ),
        (
            app.system.is_some() && is_image,
            root().key("system"),
            "wants a machine of its own, which no image brings; leave out --oci",
        ),
        (
            app.store.mode == StoreMode::All,
            root().key("store").key("mode"),
            "must not be \"all\" to build: what a file has of the store is a closure",
        ),
    ];
    match refused.into_iter().find(|(is_bad, ..)| *is_bad) {
        None => Ok(()),
        Some((_, place, message)) => {
            let message = message.into();
            Err(Problems::from(file.locate(Complaint { place, message })).into())
        }
    }
}

/// The store paths that the program needs, sorted; none for a machine without a store.
fn closure(file: &AppFile) -> Result<Option<Vec<StorePath>>> {
    match StoreView::of(&file.app, &roots(file))? {
        StoreView::Closure(closure) => Ok(Some(closure.paths().to_vec())),
        StoreView::None => Ok(None),
        StoreView::All | StoreView::Bundle(_) => bail!("the store is not that of a closure"),
    }
}
