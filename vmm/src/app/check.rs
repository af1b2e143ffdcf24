//! What each value of an [`App`] must be, beyond its type.
//!
//! Each rule gives one complaint: what is allowed, and what was found.

mod limits;
mod network;
mod program;
mod service;
mod storage;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use super::label;
use super::place::Place;
use super::problem::Complaint;
use super::quote::quoted;
use super::{App, MAX_CMDLINE_SIZE, MAX_LABELS, MAX_PROBLEMS, MAX_VCPUS, Memory, VERSION, Volume};

/// A name of a machine: it is a folder's name, a host's name and a word on command lines.
pub const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// A name of what machines share: as a machine's, or a project's and a "_" before that.
pub const SHARED_NAME_PATTERN: &str =
    "^(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(_[a-z0-9]([a-z0-9-]*[a-z0-9])?)?$";

/// Labels of letters, digits and "-", with dots between them.
pub const HOSTNAME_PATTERN: &str =
    r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$";

/// What a machine is called in a network: the same with "_".
pub const ALIAS_PATTERN: &str =
    r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$";

/// Bytes of a host name (the kernel's `__NEW_UTS_LEN`).
pub const MAX_HOSTNAME_SIZE: usize = 64;

const MAX_NAME_SIZE: usize = 63;

/// Bytes of a path, with its NUL (the kernel's `PATH_MAX`).
const MAX_PATH_SIZE: usize = 4096;

/// Complaints about the values, each by itself.
pub fn values(app: &App) -> Vec<Complaint> {
    let mut check = Check(Vec::new());
    let root = Place::root;
    check.expect(
        app.version == VERSION,
        root().key("version"),
        VERSION,
        app.version,
    );
    check.name(&app.name, root().key("name"));
    if let Some(hostname) = &app.hostname {
        check.hostname(hostname);
    }
    check.labels(&app.labels);
    let vcpus = 1..=MAX_VCPUS;
    check.expect(
        vcpus.contains(&app.vcpus),
        root().key("vcpus"),
        format_args!("from 1 to {MAX_VCPUS}"),
        app.vcpus,
    );
    let (least, most) = (
        Memory::from_mib(Memory::MIN_MIB),
        Memory::from_mib(Memory::MAX_MIB),
    );
    check.expect(
        (least..=most).contains(&app.memory),
        root().key("memory"),
        format_args!("from {least} to {most}"),
        app.memory,
    );
    check.kernel(app);
    check.main(app);
    if let Some(image) = &app.image {
        check.host_path(Path::new(image), root().key("image"));
        if app.system.is_some() {
            check.complain(
                root().key("image"),
                "must not be given with a system, which is its own root".into(),
            );
        }
    }
    if let Some(bundle) = &app.bundle {
        check.host_path(bundle, root().key("bundle"));
    }
    if let Some(closure) = &app.store.closure {
        check.host_path(closure, root().key("store").key("closure"));
    }
    let writable = app.store.writable.as_ref();
    if let Some(volume) = writable.and_then(|store| store.volume.as_ref()) {
        let place = root().key("store").key("writable").key("volume");
        check.shared_name(volume, place);
    }
    check.shares(&app.shares);
    check.volumes(&app.volumes);
    check.tmpfs(&app.tmpfs);
    if let Some(persist) = &app.root.persist {
        check.shared_name(persist, root().key("root").key("persist"));
    }
    check.interfaces(app.interfaces.as_deref().unwrap_or_default());
    check.ports(&app.ports);
    check.hosts(&app.hosts);
    check.dns(&app.dns);
    if let Some(path) = &app.console.path {
        check.host_path(path, root().key("console").key("path"));
    }
    check.limits(&app.limits);
    check.secrets(&app.secrets);
    if let Some(health) = &app.healthcheck {
        check.health(health);
    }
    if let Some(period) = app.watchdog {
        check.watchdog(period);
    }
    check.restart(&app.restart);
    check.0
}

/// Complaints about one volume.
pub fn volume(volume: &Volume) -> Vec<Complaint> {
    let mut check = Check(Vec::new());
    check.volume(volume, &Place::root());
    check.0
}

struct Check(Vec<Complaint>);

impl Check {
    fn complain(&mut self, place: Place, message: String) {
        // A list can hold more bad values than anyone reads of.
        if self.0.len() <= MAX_PROBLEMS {
            self.0.push(Complaint { place, message });
        }
    }

    /// Complains unless `is_good`.
    fn expect(&mut self, is_good: bool, place: Place, allowed: impl Display, found: impl Display) {
        if !is_good {
            self.complain(place, format!("must be {allowed}, is {found}"));
        }
    }

    fn name(&mut self, name: &str, place: Place) {
        self.expect(is_name(name), place, name_rule(), quoted(name));
    }

    /// A name of what machines share: as a machine's, or a project's and a "_" before that.
    fn shared_name(&mut self, name: &str, place: Place) {
        let is_good = match name.split_once('_') {
            Some((project, own)) => name.len() <= MAX_NAME_SIZE && is_name(project) && is_name(own),
            None => is_name(name),
        };
        self.expect(is_good, place, name_rule(), quoted(name));
    }

    fn hostname(&mut self, hostname: &str) {
        let allowed = format!(
            "1 to {MAX_HOSTNAME_SIZE} letters, digits, \"-\" and \".\", with a letter or digit around each \".\""
        );
        let is_good = hostname.len() <= MAX_HOSTNAME_SIZE && hostname.split('.').all(is_label);
        self.expect(
            is_good,
            Place::root().key("hostname"),
            allowed,
            quoted(hostname),
        );
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        let place = Place::root().key("labels");
        self.expect(
            labels.len() <= MAX_LABELS,
            place.clone(),
            format_args!("at most {MAX_LABELS} labels"),
            labels.len(),
        );
        for (name, text) in labels {
            let here = || place.clone().key(name.clone());
            if !label::is_name(name) {
                let message = format!(
                    "a label's name must be 1 to {} bytes without \"=\" and \
                     control characters, is {}",
                    label::MAX_NAME_SIZE,
                    quoted(name)
                );
                self.complain(here(), message);
            }
            self.expect(
                text.len() <= label::MAX_TEXT_SIZE,
                here(),
                format_args!("at most {} bytes", label::MAX_TEXT_SIZE),
                format_args!("{} bytes", text.len()),
            );
        }
    }

    fn kernel(&mut self, app: &App) {
        let place = || Place::root().key("kernel");
        if let Some(path) = &app.kernel.path {
            self.host_path(path, place().key("path"));
        }
        let cmdline = &app.kernel.cmdline;
        self.expect(
            cmdline.len() <= MAX_CMDLINE_SIZE,
            place().key("cmdline"),
            format_args!("at most {MAX_CMDLINE_SIZE} bytes"),
            format_args!("{} bytes", cmdline.len()),
        );
        if let Some(bad) = cmdline.chars().find(|c| !matches!(c, ' '..='~')) {
            let found = quoted(bad.encode_utf8(&mut [0; 4]));
            self.complain(
                place().key("cmdline"),
                format!("must be printable ASCII, has {found}"),
            );
        }
    }

    fn no_nul(&mut self, text: &str, place: Place) {
        if let Some(at) = text.find('\0') {
            self.complain(
                place,
                format!(
                    "must not contain a NUL, has one after {}",
                    quoted(&text[..at])
                ),
            );
        }
    }

    /// A path on the host; relative ones have been resolved by now.
    fn host_path(&mut self, path: &Path, place: Place) {
        let text = path.to_string_lossy();
        self.path_size(&text, place.clone());
        self.expect(!text.is_empty(), place.clone(), "a path", "empty");
        self.no_nul(&text, place);
    }

    /// An absolute path in the machine.
    fn guest_path(&mut self, path: &str, place: Place) {
        self.path_size(path, place.clone());
        self.no_nul(path, place.clone());
        self.expect(
            path.starts_with('/'),
            place.clone(),
            "an absolute path",
            quoted(path),
        );
        if path.split('/').any(|part| part == "..") {
            self.complain(
                place,
                format!("must not contain \"..\", is {}", quoted(path)),
            );
        }
    }

    fn path_size(&mut self, path: &str, place: Place) {
        let most = MAX_PATH_SIZE - 1;
        let found = format!("{} bytes", path.len());
        self.expect(
            path.len() <= most,
            place,
            format_args!("at most {most} bytes"),
            found,
        );
    }
}

/// Whether a machine can be called so.
pub fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_SIZE
        && is_label(name)
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What a machine's name must be.
pub fn name_rule() -> String {
    format!(
        "1 to {MAX_NAME_SIZE} lower-case letters, digits and \"-\", with no \"-\" at either end"
    )
}

/// One part of a host name.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
