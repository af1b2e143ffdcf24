//! What the Nix in a machine is told of the machine's store, so that it takes the paths for valid.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use guest::registration::REGISTER;
use vmm::app::{self, App, System};
use vmm::closure::{Closure, Nix, StorePath, StoreView};

/// What a machine's Nix is told of its store.
pub struct Registration {
    /// The role of `mvm-init` that passes it on, with its arguments.
    pub role: Vec<String>,
    /// What is known of the paths: the role's input.
    pub text: String,
}

impl Registration {
    /// What `app` asks for, whose store is this `view`, and whose file names these `roots`.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn of(app: &App, view: &StoreView, roots: &BTreeSet<StorePath>) -> Result<Option<Self>> {
        let is_asked = match app.registration() {
            app::Registration::No => return Ok(None),
            app::Registration::IfThereIsNix => false,
            app::Registration::Yes => true,
        };
        let StoreView::Closure(closure) = view else {
            return Ok(None);
        };
        let Some(program) = nix_store(app.system.as_ref(), closure) else {
            ensure!(
                !is_asked,
                "store.registerClosure: none of the machine's {} store paths has a bin/nix-store",
                closure.paths().len()
            );
            return Ok(None);
        };
        let text = closure.registration(&Nix::of_this_host());
        let text = text.context("store.registerClosure")?;
        let kept = roots.iter().filter(|root| closure.contains(root));
        let kept = kept.map(|root| root.as_str().to_owned());
        let role = [REGISTER.to_owned(), program].into_iter().chain(kept);
        Ok(Some(Self {
            role: role.collect(),
            text,
        }))
    }
}

/// The `nix-store` of the system, or else of the closure.
fn nix_store(system: Option<&System>, closure: &Closure) -> Option<String> {
    let of_system = system.map(|system| format!("{}/sw/bin/nix-store", system.path));
    let paths = closure.paths().iter();
    let of_paths = paths.map(|path| format!("{}/bin/nix-store", path.as_str()));
    let mut all = of_system.into_iter().chain(of_paths);
    all.find(|program| Path::new(program).exists())
}
