//! A layer of an image: an archive of store paths, or of what a root has besides, packed by gzip.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use guest::init::{FOLDERS, of_users};
use image::{Digest, Written};
use tar::{Builder, EntryType, Header};
use vmm::app::App;
use vmm::closure::{STORE_DIR, StorePath};

use super::Interrupt;
use super::walk::{FOLDER_MODE, Kind, walk};
use crate::monitor::setup;

/// When all was made, in seconds, as Nix has it.
const TIME: u64 = 1;

/// A layer that is written.
pub struct Layer {
    /// Its bytes, from the beginning.
    pub file: File,
    /// How many.
    pub bytes: u64,
    /// Of its bytes.
    pub digest: Digest,
    /// Of the archive that they are.
    pub diff_id: Digest,
}

type Archive = Builder<Written<GzEncoder<Written<File>>>>;

/// A layer with these store paths, in `beside` as long as it is open.
///
/// # Errors
/// Something cannot be read or written, or the user has lost patience.
pub fn of_store(paths: &[StorePath], beside: &Path, interrupt: &Interrupt) -> Result<Layer> {
    let mut archive = begin(beside)?;
    for folder in ["nix", "nix/store"] {
        add_folder(&mut archive, folder, 0o755, (0, 0))?;
    }
    for path in paths {
        walk(Path::new(path.as_str()), &mut |from, kind| {
            interrupt.check()?;
            add(&mut archive, from, kind).with_context(|| format!("cannot pack {}", from.display()))
        })?;
    }
    finish(archive)
}

/// The layer with what a machine of `app` finds in its root besides the store.
///
/// # Errors
/// It cannot be written.
pub fn of_root(app: &App, beside: &Path) -> Result<Layer> {
    let mut archive = begin(beside)?;
    for (folder, mode) in FOLDERS {
        add_folder(&mut archive, folder, mode, (0, 0))?;
    }
    let users: Vec<_> = setup::user(app).into_iter().collect();
    for (path, content) in of_users(&users) {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, &path[1..], content.as_bytes())?;
    }
    for user in &users {
        let home = user.home.trim_start_matches('/');
        if let Some(parent) = Path::new(home).parent() {
            add_folder(&mut archive, &parent.to_string_lossy(), 0o755, (0, 0))?;
        }
        add_folder(&mut archive, home, 0o700, (user.uid, user.gid))?;
    }
    finish(archive)
}

fn begin(beside: &Path) -> Result<Archive> {
    let file = tempfile::tempfile_in(beside)
        .with_context(|| format!("cannot write to the folder {}", beside.display()))?;
    // Its header has neither time nor name.
    let gzip = GzBuilder::new().write(Written::new(file), Compression::default());
    Ok(Builder::new(Written::new(gzip)))
}

fn finish(archive: Archive) -> Result<Layer> {
    let (gzip, diff_id, _) = archive.into_inner()?.finish();
    let (mut file, digest, bytes) = gzip.finish()?.finish();
    file.flush()?;
    file.rewind()?;
    Ok(Layer {
        file,
        bytes,
        digest,
        diff_id,
    })
}

fn add(archive: &mut Archive, from: &Path, kind: &Kind) -> Result<()> {
    let below = from.strip_prefix(STORE_DIR)?;
    let name = Path::new(&STORE_DIR[1..]).join(below);
    match kind {
        Kind::Folder => archive.append_data(
            &mut header(EntryType::Directory, FOLDER_MODE),
            name,
            io::empty(),
        )?,
        Kind::Link(target) => {
            archive.append_link(&mut header(EntryType::Symlink, 0o777), name, target)?;
        }
        Kind::File { bytes, mode } => {
            let mut header = header(EntryType::Regular, *mode);
            header.set_size(*bytes);
            archive.append_data(&mut header, name, File::open(from)?)?;
        }
    }
    Ok(())
}

fn add_folder(archive: &mut Archive, name: &str, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    let mut header = header(EntryType::Directory, mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    Ok(archive.append_data(&mut header, name, io::empty())?)
}

/// Of something that is root's, without content.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header.set_size(0);
    header
}
