//! Volumes: the files that a machine's disks are, found, made, and held by one machine at a time.
//!
//! The one thing to know: a volume is its file's, by whatever name it is reached. The lock (`flock`)
//! is on the open file and ends with the process, so nothing is left to clean up.
//!
//! Left out: growing one, image formats other than raw. No file is ever looked into to find out what
//! it is, for its content is the guest's.

mod lock;
mod make;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use devices::virtio::blk;

use crate::app::{App, Rate, Volume};
use crate::state;
use make::Wanted;

/// What the names of volumes' files end with.
const SUFFIX: &str = ".raw";

/// Bytes of what stat(2) counts as a block.
const BLOCK_SIZE: u64 = 512;

/// The disks of a machine, each held by it, and made if it was missing.
///
/// # Errors
/// One cannot be had; the message names it.
pub fn disks(app: &App, vcpus: u16) -> anyhow::Result<Vec<blk::Config>> {
    let owner = app.user().map_or((0, 0), |user| user.ids());
    let disk = |(nth, volume): (usize, &Volume)| {
        let path = path(volume)?;
        let shown = shown(volume, &path);
        let file = open(volume, &path, owner).with_context(|| format!("cannot use {shown}"))?;
        Ok(blk::Config {
            name: shown,
            file,
            window: None,
            serial: serial(nth),
            read_only: volume.read_only,
            vcpus,
            counters: Arc::default(),
            rate: volume.rate_limit.as_ref().map(Rate::of_device),
        })
    };
    app.volumes.iter().enumerate().map(disk).collect()
}

/// What the guest finds the `nth` volume by.
pub fn serial(nth: usize) -> String {
    format!("volume{nth}")
}

/// The file of a volume.
///
/// # Errors
/// It has a name, and this user no home for it.
pub fn path(volume: &Volume) -> anyhow::Result<PathBuf> {
    match (&volume.image, &volume.name) {
        (Some(image), _) => Ok(image.clone()),
        (None, Some(name)) => file_of(name),
        (None, None) => bail!("a volume has neither name nor image"),
    }
}

/// The names of this user's volumes, sorted.
///
/// # Errors
/// This user has no home for them, or it cannot be read.
pub fn names() -> anyhow::Result<Vec<String>> {
    let folder = folder()?;
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    let name = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(SUFFIX)?.to_owned())
    };
    let mut names: Vec<_> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// What is known of a volume from its file.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The file.
    pub path: PathBuf,
    /// How much it can hold.
    pub size_bytes: u64,
    /// What it takes of the host's disk.
    pub allocated_bytes: u64,
    /// When it was written last, where the host knows.
    pub modified: Option<SystemTime>,
}

/// What is known of the volume of that name.
///
/// # Errors
/// There is none, or this user has no home for it.
pub fn facts(name: &str) -> anyhow::Result<Facts> {
    let path = file_of(name)?;
    let facts =
        fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Facts {
        path,
        size_bytes: facts.len(),
        allocated_bytes: facts.blocks().saturating_mul(BLOCK_SIZE),
        modified: facts.modified().ok(),
    })
}

/// Makes a volume whose topmost folder is of that user and group. One that is there is left so.
///
/// # Errors
/// It cannot be made, or a machine has it.
pub fn create(volume: &Volume, owner: (u32, u32)) -> anyhow::Result<()> {
    open(volume, &path(volume)?, owner).map(drop)
}

/// Removes a volume with all that is in it. One that is not there is left so.
///
/// # Errors
/// A machine has it, or its file cannot be removed.
pub fn remove(name: &str) -> anyhow::Result<()> {
    let path = file_of(name)?;
    // While it is held, no machine can have it.
    let _held = match existing(&path, false) {
        Err(error) if is_missing(&error) => return Ok(()),
        other => other?,
    };
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(state::folder()?.join("volumes"))
}

fn file_of(name: &str) -> anyhow::Result<PathBuf> {
    Ok(folder()?.join(format!("{name}{SUFFIX}")))
}

/// What messages call it.
fn shown(volume: &Volume, path: &Path) -> String {
    match &volume.name {
        Some(name) => format!("volume {name}"),
        None => format!("volume {}", path.display()),
    }
}

/// Whether the volume can be had, or made, as far as can be seen without doing it.
///
/// # Errors
/// It cannot; the message says why.
pub fn look(volume: &Volume) -> anyhow::Result<()> {
    let path = path(volume)?;
    match fs::metadata(&path) {
        Ok(facts) => ensure_disk(&facts, &path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => ensure_made(volume, &path),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Opens and locks the file, and makes it first if it is missing.
fn open(volume: &Volume, path: &Path, owner: (u32, u32)) -> anyhow::Result<File> {
    match existing(path, volume.read_only) {
        Err(error) if is_missing(&error) => {}
        other => return other,
    }
    ensure_made(volume, path)?;
    let wanted = Wanted {
        path,
        bytes: volume.size.bytes(),
        owner,
    };
    make::make(&wanted)
}

fn ensure_made(volume: &Volume, path: &Path) -> anyhow::Result<()> {
    let why_not = match (volume.read_only, volume.create) {
        (true, _) => "readOnly is true",
        (_, false) => "create is false",
        _ => return Ok(()),
    };
    bail!(
        "there is no {}, and it is not made where {why_not}",
        path.display()
    )
}

fn ensure_disk(facts: &Metadata, path: &Path) -> anyhow::Result<()> {
    let kind = facts.file_type();
    ensure!(
        kind.is_file() || kind.is_block_device(),
        "{} is neither a file nor a block device",
        path.display()
    );
    Ok(())
}

fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Opens and locks a file that is there.
fn existing(path: &Path, read_only: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    // Without waiting for the other end of a FIFO.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).write(!read_only).custom_flags(flags);
    let file = options
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    // Of what was opened, whatever the path leads to by now.
    ensure_disk(&file.metadata()?, path)?;
    lock::lock(&file, read_only)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
