//! What a system decides itself whose own stage 1 mounts its file systems.

use super::super::place::Place;
use super::super::problem::Complaint;
use super::super::{App, Root};
use super::refusals;

/// Complaints about what mvm would have to do in the place of that stage 1.
pub(super) fn between(app: &App, complaints: &mut Vec<Complaint>) {
    if app.own_kernel().is_none() {
        return;
    }
    let root = Place::root;
    let mut complain = refusals(complaints, "is of no use with system.kernel \"own\"");
    complain(
        app.kernel.path.is_some(),
        root().key("kernel").key("path"),
        "the kernel is the system's",
    );
    complain(
        app.root != Root::default(),
        root().key("root"),
        "the system's `fileSystems` say what its root is",
    );
    complain(
        app.store.writable.is_some() || app.store.register_closure == Some(true),
        root().key("store"),
        "the system's `fileSystems` say whether its store is an overlay, and its stage 2 registers \
         what `regInfo=` names",
    );
    complain(
        !app.tmpfs.is_empty(),
        root().key("tmpfs"),
        "the system's `fileSystems` say what is in memory",
    );
    complain(
        !app.dns.is_empty(),
        root().key("dns"),
        "`networking` of the system's configuration says whom it asks",
    );
    for (name, secret) in &app.secrets {
        let place = || root().key("secrets").key(name.clone());
        let reason = "services load the secret as a credential";
        complain(secret.path.is_some(), place().key("path"), reason);
        complain(secret.owner.is_some(), place().key("owner"), reason);
    }
}
