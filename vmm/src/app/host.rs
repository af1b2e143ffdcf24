//! Whether what a file names is there on this host, for `mvm check`.
//!
//! `mvm run` does not ask: it opens each of these and has the kernel's own answer.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::place::Place;
use super::problem::{Complaint, Problem, Problems};
use super::{AppFile, IMAGE_ID, Share, StoreMode, split_image};
use crate::bundle::Bundle;
use crate::closure::{STORE_DIR, StorePath, StoreView, roots};
use crate::toplevel::{Toplevel, ensure_bootable};
use crate::volume;

impl AppFile {
    /// All that the file names on the host and that is not there, or not what it should be.
    pub fn check_host(&self) -> Result<(), Problems> {
        let complaints = self.complaints_of_host();
        if complaints.is_empty() {
            return Ok(());
        }
        let problems: Vec<Problem> = complaints.into_iter().map(|one| self.locate(one)).collect();
        Err(Problems::new(problems))
    }

    /// The same, without lines.
    pub(crate) fn complaints_of_host(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut expect = |place: Place, outcome: Result<(), String>| {
            if let Err(message) = outcome {
                complaints.push(Complaint { place, message });
            }
        };
        if let Some(path) = &self.app.kernel.path {
            expect(Place::root().key("kernel").key("path"), file(path));
        }
        for (nth, share) in self.app.shares.iter().enumerate() {
            expect(
                Place::root().key("shares").index(nth).key("source"),
                shared(share),
            );
        }
        for (nth, volume) in self.app.volumes.iter().enumerate() {
            let key = if volume.image.is_some() {
                "image"
            } else {
                "name"
            };
            expect(
                Place::root().key("volumes").index(nth).key(key),
                volume::look(volume).map_err(|error| format!("{error:#}")),
            );
        }
        for (name, secret) in &self.app.secrets {
            if let Some(source) = &secret.source {
                let place = Place::root().key("secrets").key(name.clone());
                expect(place.key("source"), file(source));
            }
        }
        if let Some(image) = &self.app.image {
            if !image.starts_with(IMAGE_ID) {
                expect(Place::root().key("image"), there(split_image(image).0));
            }
        } else if let Some(bundle) = &self.app.bundle {
            let outcome = Bundle::open(bundle).and_then(|bundle| bundle.verify());
            let outcome = outcome.map_err(|error| format!("{error:#}"));
            expect(Place::root().key("bundle"), outcome);
        } else if self.app.store.mode != StoreMode::None {
            let program = self.app.program();
            let entrypoint = program.entrypoint.first().map_or("", String::as_str);
            let place = match self.app.system {
                Some(_) => Place::root().key("system").key("path"),
                None => Place::root().key("app").key("entrypoint"),
            };
            expect(place, stored(Path::new(entrypoint)));
        }
        // A bundle has what was looked at when it was made.
        if let (Some(system), None) = (&self.app.system, &self.app.bundle) {
            let outcome = Toplevel::of(&self.app).and_then(|_| ensure_bootable(system));
            let place = Place::root().key("system").key("kernel");
            expect(place, outcome.map_err(|error| format!("{error:#}")));
        }
        // What an image needs of the store it has. With the entrypoint gone, the closure could only
        // fail for the same reason.
        if complaints.is_empty()
            && self.app.image.is_none()
            && let Err(error) = StoreView::of(&self.app, &roots(self))
        {
            let has_list = self.app.store.closure.is_some();
            let place = Place::root().key("store");
            let place = place.key(if has_list { "closure" } else { "mode" });
            let message = format!("{error:#}");
            complaints.push(Complaint { place, message });
        }
        complaints
    }
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}

fn file(path: &Path) -> Result<(), String> {
    let kind = fs::metadata(path).map_err(|error| cannot("open", path, &error))?;
    if !kind.is_file() {
        return Err(format!("must be a file: {}", path.display()));
    }
    File::open(path)
        .map(drop)
        .map_err(|error| cannot("open", path, &error))
}

fn there(path: &Path) -> Result<(), String> {
    fs::metadata(path)
        .map(drop)
        .map_err(|error| cannot("find", path, &error))
}

fn shared(share: &Share) -> Result<(), String> {
    if share.file_name().is_none() {
        return folder(&share.source);
    }
    share.ensure_can_be().map_err(|error| error.to_string())?;
    file(&share.source)
}

fn folder(path: &Path) -> Result<(), String> {
    // Reading a folder that is none says so itself: ENOTDIR.
    fs::read_dir(path)
        .map(drop)
        .map_err(|error| cannot("read folder", path, &error))
}

/// A path in the store must exist; what is elsewhere only the machine can see.
fn stored(path: &Path) -> Result<(), String> {
    if !path.starts_with(STORE_DIR) {
        return Ok(());
    }
    let Err(error) = fs::metadata(path) else {
        return Ok(());
    };
    let hint = match StorePath::containing(path) {
        Some(root) if error.kind() == io::ErrorKind::NotFound && !root.exists() => {
            format!("; `nix-store --realise {root}` may bring it back")
        }
        _ => String::new(),
    };
    Err(format!("{}{hint}", cannot("find", path, &error)))
}
