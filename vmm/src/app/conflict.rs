//! Values of an [`App`] that are good each by itself but not together.

use std::path::{Path, PathBuf};

use super::place::Place;
use super::problem::Complaint;
use super::quote::quoted;
use super::{App, ConsoleMode, MAX_SHARES, Share, StoreMode};
use crate::closure::STORE_DIR;

/// What the machine itself mounts, store aside: a share there would be hidden or would break it.
const OWN_MOUNTS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Complaints about values that do not go together, each at one of them.
pub fn between(app: &App) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    // Each share is compared with each: only as many as there may be.
    if app.shares.len() <= MAX_SHARES {
        mount_points(app, &mut complaints);
        tags(app, &mut complaints);
    }
    store(app, &mut complaints);
    console(app, &mut complaints);
    complaints
}

fn share(nth: usize, key: &'static str) -> Place {
    Place::root().key("shares").index(nth).key(key)
}

fn mount_points(app: &App, complaints: &mut Vec<Complaint>) {
    let points: Vec<PathBuf> = app.shares.iter().map(normal_mount_point).collect();
    for (nth, point) in points.iter().enumerate() {
        let shown = quoted(&app.shares[nth].mount_point.to_string_lossy());
        let message = if let Some(first) = points[..nth].iter().position(|other| other == point) {
            format!("{shown} is the mountPoint of shares[{first}] too")
        } else if point == Path::new("/") {
            format!("must be a folder below \"/\", is {shown}: the machine's root is its own")
        } else if let Some(own) = OWN_MOUNTS.iter().find(|own| point.starts_with(own)) {
            format!(
                "must not be in {}, which is the machine's own, is {shown}",
                quoted(own)
            )
        } else if app.store.mode != StoreMode::None && overlaps_store(point) {
            let store = quoted(STORE_DIR);
            format!(
                "must not cover or be in {store}, which `store` mounts, is {shown}; store.mode \"none\" leaves it free"
            )
        } else {
            continue;
        };
        complaints.push(Complaint {
            place: share(nth, "mountPoint"),
            message,
        });
    }
}

fn overlaps_store(point: &Path) -> bool {
    point.starts_with(STORE_DIR) || Path::new(STORE_DIR).starts_with(point)
}

/// The mount point without what does not count: `//srv/./x/` is `/srv/x`.
fn normal_mount_point(share: &Share) -> PathBuf {
    share.mount_point.components().collect()
}

fn tags(app: &App, complaints: &mut Vec<Complaint>) {
    let tags = app.share_tags();
    for (nth, tag) in tags.iter().enumerate() {
        if let Some(first) = tags[..nth].iter().position(|other| other == tag) {
            let message = format!("{} is the tag of shares[{first}] too", quoted(tag));
            complaints.push(Complaint {
                place: share(nth, "tag"),
                message,
            });
        }
    }
}

fn store(app: &App, complaints: &mut Vec<Complaint>) {
    let place = || Place::root().key("store");
    if app.store.closure.is_some() && app.store.mode != StoreMode::Closure {
        let message = "is of no use unless store.mode is \"closure\"".into();
        complaints.push(Complaint {
            place: place().key("closure"),
            message,
        });
    }
    let Some(entrypoint) = app.app.entrypoint.first() else {
        return;
    };
    let is_shared = |entrypoint: &Path| {
        app.shares
            .iter()
            .any(|share| entrypoint.starts_with(normal_mount_point(share)))
    };
    let entrypoint_path = Path::new(entrypoint);
    let is_stored = entrypoint_path.starts_with(STORE_DIR);
    if app.store.mode == StoreMode::None && is_stored && !is_shared(entrypoint_path) {
        let message = format!(
            "must not be \"none\" while app.entrypoint is in {} ({}) and no share is there",
            quoted(STORE_DIR),
            quoted(entrypoint)
        );
        complaints.push(Complaint {
            place: place().key("mode"),
            message,
        });
    }
}

fn console(app: &App, complaints: &mut Vec<Complaint>) {
    let place = || Place::root().key("console");
    let is_file = app.console.mode == ConsoleMode::File;
    if is_file && app.console.path.is_none() {
        let message = "\"file\" needs console.path, the file to write".into();
        complaints.push(Complaint {
            place: place().key("mode"),
            message,
        });
    }
    if !is_file && app.console.path.is_some() {
        let message = "is of no use unless console.mode is \"file\"".into();
        complaints.push(Complaint {
            place: place().key("path"),
            message,
        });
    }
}
