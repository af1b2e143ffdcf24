//! What a bundle has already.

use super::super::place::Place;
use super::super::problem::Complaint;
use super::super::{App, StoreMode};
use super::refusals;

/// Complaints about what would take the place of what the bundle has.
pub(super) fn between(app: &App, complaints: &mut Vec<Complaint>) {
    if app.bundle.is_none() {
        return;
    }
    let root = Place::root;
    let mut complain = refusals(complaints, "does not go with `bundle`");
    complain(
        app.image.is_some(),
        root().key("image"),
        "a bundle has a store, and no image",
    );
    let store = || root().key("store");
    let reason = "its store is the machine's";
    let is_all = app.store.mode == StoreMode::All;
    complain(is_all, store().key("mode"), reason);
    complain(app.store.closure.is_some(), store().key("closure"), reason);
    complain(!app.store.data.is_default(), store().key("data"), reason);
    complain(
        app.store.register_closure == Some(true),
        store().key("registerClosure"),
        "it does not say what Nix knows of its paths",
    );
}
