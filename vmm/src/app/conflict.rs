//! Values of an [`App`] that are good each by itself but not together.

mod bundle;
mod network;
mod own_kernel;
mod store;

use std::path::{Path, PathBuf};

use super::place::Place;
use super::problem::Complaint;
use super::quote::quoted;
use super::{
    App, Bytes, ConsoleMode, IMAGE_ID, MAX_SHARES, MAX_TMPFS, MAX_VOLUMES, OnFailure, Policy,
    RootKind, StoreMode, Volume,
};
use crate::closure::STORE_DIR;

/// What the machine itself mounts, store aside: a share there would be hidden or would break it.
const OWN_MOUNTS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where a machine keeps what it adds to its store.
const ADDITIONS_DIR: &str = "/nix/.rw-store";

/// Complaints about values that do not go together, each at one of them.
pub fn between(app: &App) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    // Each share, volume and tmpfs is compared with each: only as many as there may be.
    if app.shares.len() <= MAX_SHARES
        && app.volumes.len() <= MAX_VOLUMES
        && app.tmpfs.len() <= MAX_TMPFS
    {
        mount_points(app, &mut complaints);
        tags(app, &mut complaints);
        volumes(app, &mut complaints);
    }
    network::between(app, &mut complaints);
    root(app, &mut complaints);
    names(app, &mut complaints);
    own_kernel::between(app, &mut complaints);
    bundle::between(app, &mut complaints);
    store(app, &mut complaints);
    store::between(app, &mut complaints);
    console(app, &mut complaints);
    limits(app, &mut complaints);
    restart(app, &mut complaints);
    complaints
}

/// Adds a complaint for each value that `is_bad`: its words are `start` and the reason.
fn refusals(complaints: &mut Vec<Complaint>, start: &'static str) -> impl FnMut(bool, Place, &str) {
    move |is_bad, place, reason| {
        if is_bad {
            let message = format!("{start}: {reason}");
            complaints.push(Complaint { place, message });
        }
    }
}

fn share(nth: usize, key: &'static str) -> Place {
    Place::root().key("shares").index(nth).key(key)
}

/// Something that the machine mounts: its place in the file, and where it is mounted.
struct Mounted<'a> {
    place: Place,
    point: &'a Path,
}

fn mounted(app: &App) -> Vec<Mounted<'_>> {
    let at = |list: &'static str, nth| Place::root().key(list).index(nth);
    let shares = app.shares.iter().enumerate().map(|(nth, share)| Mounted {
        place: at("shares", nth),
        point: &share.mount_point,
    });
    let volumes = app.volumes.iter().enumerate().filter_map(|(nth, volume)| {
        Some(Mounted {
            place: at("volumes", nth),
            point: volume.mount_point.as_deref()?,
        })
    });
    let tmpfs = app.tmpfs.iter().enumerate().map(|(nth, tmpfs)| Mounted {
        place: at("tmpfs", nth),
        point: &tmpfs.mount_point,
    });
    shares.chain(volumes).chain(tmpfs).collect()
}

fn mount_points(app: &App, complaints: &mut Vec<Complaint>) {
    let mounted = mounted(app);
    let points: Vec<PathBuf> = mounted.iter().map(|one| normal(one.point)).collect();
    for (nth, point) in points.iter().enumerate() {
        let shown = quoted(&mounted[nth].point.to_string_lossy());
        let message = if let Some(first) = points[..nth].iter().position(|other| other == point) {
            format!("{shown} is the mountPoint of {} too", mounted[first].place)
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
        } else if app.store.writable.is_some() && point.starts_with(ADDITIONS_DIR) {
            let kept = quoted(ADDITIONS_DIR);
            format!("must not be in {kept}, which `store.writable` mounts, is {shown}")
        } else {
            continue;
        };
        complaints.push(Complaint {
            place: mounted[nth].place.clone().key("mountPoint"),
            message,
        });
    }
}

fn overlaps_store(point: &Path) -> bool {
    point.starts_with(STORE_DIR) || Path::new(STORE_DIR).starts_with(point)
}

/// The mount point without what does not count: `//srv/./x/` is `/srv/x`.
fn normal(point: &Path) -> PathBuf {
    point.components().collect()
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

fn volumes(app: &App, complaints: &mut Vec<Complaint>) {
    let place = |nth| Place::root().key("volumes").index(nth);
    let root = app.root_volume();
    let store = app.store_volume();
    for (nth, volume) in app.volumes.iter().enumerate() {
        let is_same = |other: &Volume| (&volume.name, &volume.image) == (&other.name, &other.image);
        if let Some(first) = app.volumes[..nth].iter().position(is_same) {
            let key = if volume.name.is_some() {
                "name"
            } else {
                "image"
            };
            complaints.push(Complaint {
                place: place(nth).key(key),
                message: format!("is the {key} of volumes[{first}] too"),
            });
            continue;
        }
        match (&volume.mount_point, root == Some(nth)) {
            (Some(_), true) => complaints.push(Complaint {
                place: place(nth).key("mountPoint"),
                message: "is of no use: root.persist makes this volume a part of \"/\"".into(),
            }),
            (None, false) if store != Some(nth) && app.own_kernel().is_none() => {
                complaints.push(Complaint {
                    place: place(nth),
                    message: "needs a \"mountPoint\", since root.persist does not name it".into(),
                });
            }
            _ => {}
        }
        if volume.read_only && root == Some(nth) {
            complaints.push(Complaint {
                place: place(nth).key("readOnly"),
                message: "must be false, since root.persist names this volume".into(),
            });
        }
    }
    if let (Some(persist), None) = (&app.root.persist, root) {
        complaints.push(Complaint {
            place: Place::root().key("root").key("persist"),
            message: format!(
                "must be the name of one of `volumes`, is {}",
                quoted(persist)
            ),
        });
    }
}

fn root(app: &App, complaints: &mut Vec<Complaint>) {
    let why_written = if app.system.is_some() {
        Some("a system writes to its root")
    } else if app.root.persist.is_some() {
        Some("`persist` keeps what is written")
    } else if app.root.kind == RootKind::Folder {
        Some("the folder of the host is what is written to")
    } else {
        None
    };
    if let (true, Some(why)) = (app.root.read_only, why_written) {
        complaints.push(Complaint {
            place: Place::root().key("root").key("readOnly"),
            message: format!("must be false: {why}"),
        });
    }
    if app.root.kind != RootKind::Folder {
        return;
    }
    let message = match (&app.image, &app.root.persist) {
        (None, _) => "\"folder\" needs an `image`, the folder that it is",
        (Some(image), _) if image.starts_with(IMAGE_ID) => {
            "\"folder\" needs an `image` that is a folder"
        }
        (_, Some(_)) => "\"folder\" keeps what is written, and `persist` would elsewhere",
        (Some(_), None) => return,
    };
    complaints.push(Complaint {
        place: Place::root().key("root").key("type"),
        message: message.into(),
    });
}

/// Files of an /etc that is not mvm's to write.
fn names(app: &App, complaints: &mut Vec<Complaint>) {
    let mut complain = refusals(complaints, "is of no use");
    let root = Place::root;
    let is_folder = app.root.kind == RootKind::Folder;
    let reason = "the /etc of a root of type \"folder\" is left as it is";
    complain(
        is_folder && !app.hosts.is_empty(),
        root().key("hosts"),
        reason,
    );
    complain(is_folder && !app.dns.is_empty(), root().key("dns"), reason);
    let reason = "`networking.hosts` of the system's configuration says them";
    let is_systems = app.system.is_some() && !app.hosts.is_empty();
    complain(is_systems, root().key("hosts"), reason);
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
    let program = app.program();
    let Some(entrypoint) = program.entrypoint.first() else {
        return;
    };
    let is_shared = |entrypoint: &Path| {
        app.shares
            .iter()
            .any(|share| entrypoint.starts_with(normal(&share.mount_point)))
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

/// A machine that uses all of its memory must not be ended for it.
fn limits(app: &App, complaints: &mut Vec<Complaint>) {
    let overhead = Bytes::at_least(app.overhead_bytes());
    let least = Bytes::at_least(app.memory_bytes().saturating_add(overhead.get()));
    if let Some(limit) = app.limits.memory.filter(|limit| *limit < least) {
        let (memory, overhead) = (app.memory, overhead.get() >> 20);
        let message = format!(
            "must be at least {least}, the memory ({memory}) and {overhead} MiB for the monitor, is {limit}"
        );
        complaints.push(Complaint {
            place: Place::root().key("limits").key("memory"),
            message,
        });
    }
}

fn restart(app: &App, complaints: &mut Vec<Complaint>) {
    let policy = app.restart.policy;
    if app.restart.max_retries.is_some() && policy != Policy::OnFailure {
        let message = "is of no use unless restart.policy is \"on-failure\"".into();
        complaints.push(Complaint {
            place: Place::root().key("restart").key("maxRetries"),
            message,
        });
    }
    let on_failure = app.health_check().map(|health| health.on_failure);
    if on_failure == Some(OnFailure::Restart) && policy == Policy::No {
        let message = "\"restart\" needs a restart.policy other than \"no\"".into();
        complaints.push(Complaint {
            place: Place::root().key("healthcheck").key("onFailure"),
            message,
        });
    }
}
