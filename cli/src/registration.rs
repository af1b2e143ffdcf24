//! What the Nix in a machine is told of the machine's store, so that it takes the paths for valid.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use guest::registration::REGISTER;
use vmm::app::{self, App, System};
use vmm::closure::{Closure, Nix, StorePath, StoreView};

use crate::agent;
use crate::attach::Connection;
use crate::output::say;

/// What a machine's Nix is told of its store.
pub struct Registration {
    /// The role of `mvm-init` that passes it on, with its arguments.
    role: Vec<String>,
    /// What is known of the paths: the role's input.
    text: String,
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
        let text = match closure.registration(&Nix::of_this_host()) {
            // A system starts without, as it does where it has no Nix.
            Err(error) if !is_asked => {
                let name = &app.name;
                say(format_args!(
                    "the Nix in {name} will not know its store: {error:#}"
                ));
                return Ok(None);
            }
            told => told.context("store.registerClosure")?,
        };
        let kept = roots.iter().filter(|root| closure.contains(root));
        let kept = kept.map(|root| root.as_str().to_owned());
        let role = [REGISTER.to_owned(), program].into_iter().chain(kept);
        Ok(Some(Self {
            role: role.collect(),
            text,
        }))
    }

    /// Tells the Nix in the machine of this connection.
    ///
    /// # Errors
    /// It does not take it.
    pub fn carry_out(&self, guest: &mut Connection) -> Result<()> {
        let role = self.role.iter().map(Into::into);
        agent::complete(guest, role, self.text.as_bytes()).context("cannot register the closure")
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
