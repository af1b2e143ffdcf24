//! What a store needs that the machine adds to, or that is its memory.

use super::super::place::Place;
use super::super::problem::Complaint;
use super::super::quote::quoted;
use super::super::{App, StoreData, StoreMode};

/// Complaints about the store and what else the file says.
pub(super) fn between(app: &App, complaints: &mut Vec<Complaint>) {
    let place = || Place::root().key("store");
    let mut complain = |is_bad: bool, place: Place, message: String| {
        if is_bad {
            complaints.push(Complaint { place, message });
        }
    };
    let is_registered = app.store.register_closure == Some(true);
    complain(
        is_registered && app.store.mode != StoreMode::Closure,
        place().key("registerClosure"),
        "is of no use unless store.mode is \"closure\"".into(),
    );
    complain(
        is_registered && app.store.writable.is_none() && app.own_kernel().is_none(),
        place().key("registerClosure"),
        "needs store.writable, without which Nix opens no store".into(),
    );
    let is_image = app.store.data == StoreData::Image;
    complain(
        is_image && app.store.mode != StoreMode::Closure,
        place().key("data"),
        "\"image\" is of no use unless store.mode is \"closure\"".into(),
    );
    let data = app.store.data;
    complain(
        matches!(data, StoreData::Dax | StoreData::Auto) && app.store.mode == StoreMode::None,
        place().key("data"),
        format!(
            "\"{}\" is of no use with store.mode \"none\", which leaves the store out",
            data.as_str()
        ),
    );
    complain(
        is_image && app.system.is_some(),
        place().key("data"),
        "\"image\" does not go with `system`, whose closure grows when it is updated".into(),
    );
    let Some(writable) = &app.store.writable else {
        return;
    };
    complain(
        app.store.mode == StoreMode::None,
        place().key("writable"),
        "is of no use with store.mode \"none\", which leaves the store out".into(),
    );
    let Some(name) = &writable.volume else {
        return;
    };
    let at = || place().key("writable").key("volume");
    complain(
        writable.size.is_some(),
        place().key("writable").key("size"),
        "is of no use: the volume that keeps the store has a size".into(),
    );
    let Some(nth) = app.store_volume() else {
        let name = quoted(name);
        let message = format!("must be the name of one of `volumes`, is {name}");
        return complain(true, at(), message);
    };
    let volume = |key| Place::root().key("volumes").index(nth).key(key);
    complain(
        app.root_volume() == Some(nth),
        at(),
        "must be another volume than that of root.persist".into(),
    );
    complain(
        app.volumes[nth].mount_point.is_some(),
        volume("mountPoint"),
        "is of no use: store.writable makes this volume a part of the store".into(),
    );
    complain(
        app.volumes[nth].read_only,
        volume("readOnly"),
        "must be false, since store.writable names this volume".into(),
    );
}
