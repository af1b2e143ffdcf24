//! Making a volume: a sparse file with an empty ext4 in it.
//!
//! The file system is made here rather than in the guest, which then needs no program for it; every
//! distribution has `mke2fs`, most cannot be without. It is made under another name, written out,
//! and then renamed: what bears a volume's name is whole, whenever this process or the host ends.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::{existing, is_missing, lock};

/// The program, and the package that has it wherever packages have names.
const MKE2FS: &str = "mke2fs";
const PACKAGE: &str = "e2fsprogs";

/// Where it is besides `$PATH`, which for users often leaves these out.
const FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

/// Between two tries, another process that made the same volume has either finished or given up.
const TRIES: u32 = 8;

/// A volume to be made.
pub struct Wanted<'a> {
    /// Where.
    pub path: &'a Path,
    /// How much it holds.
    pub bytes: u64,
    /// User and group of its topmost folder, by their numbers.
    pub owner: (u32, u32),
}

/// Makes the volume and its folder, and returns its file, locked. If another process has made it
/// meanwhile, it is that one's.
///
/// # Errors
/// There is no `mke2fs`, no room, or another process is at it or has the volume.
pub fn make(wanted: &Wanted<'_>) -> anyhow::Result<File> {
    let folder = wanted.path.parent().context("it has no folder")?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make folder {}", folder.display()))?;
    let unfinished = unfinished(wanted.path);
    for _ in 0..TRIES {
        match existing(wanted.path, false) {
            Err(error) if is_missing(&error) => {}
            other => return other,
        }
        let Some(file) = claim(&unfinished)? else {
            continue;
        };
        // Whoever had the claim before may have finished between the two looks.
        if wanted.path.exists() {
            continue;
        }
        let made = fill(&file, &unfinished, wanted);
        if made.is_err() {
            // Of no use to anyone; the next start would begin it anew.
            let _ = fs::remove_file(&unfinished);
        }
        return made.map(|()| file);
    }
    bail!("other processes make and remove it all the time")
}

/// The name that it has until it is whole. There is one, so that what a crash leaves is found by
/// the next start.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".unfinished");
    name.into()
}

/// Opens and locks the unfinished file; none if it got its name meanwhile, or was given up.
fn claim(path: &Path) -> anyhow::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Not through a link to somebody's file.
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    lock::lock(&file, false)?;
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (ours.dev(), ours.ino()) => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Makes the file system, and gives it its name. The lock goes with the file.
fn fill(file: &File, unfinished: &Path, wanted: &Wanted<'_>) -> anyhow::Result<()> {
    file.set_len(0)?;
    file.set_len(wanted.bytes)
        .with_context(|| format!("cannot make a file of {} MiB", wanted.bytes >> 20))?;
    make_file_system(unfinished, wanted.owner)?;
    file.sync_all().context("cannot write it to the disk")?;
    fs::rename(unfinished, wanted.path)
        .with_context(|| format!("cannot rename {}", unfinished.display()))?;
    let folder = wanted.path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write folder {} to the disk", folder.display()))
}

fn make_file_system(path: &Path, (uid, gid): (u32, u32)) -> anyhow::Result<()> {
    let mut command = Command::new(find(&env::var_os("PATH").unwrap_or_default())?);
    // Tables are left as they are, which is empty: the file is all holes. Nothing is kept back for
    // root, since no system has to be repaired in there.
    let options = format!("lazy_itable_init=1,lazy_journal_init=1,root_owner={uid}:{gid}");
    command.args(["-t", "ext4", "-F", "-q", "-m", "0", "-E", &options]);
    let output = command
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot execute {MKE2FS}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = words.lines().filter(|line| !line.is_empty()).collect();
    ensure!(
        output.status.success(),
        "cannot make its file system: {MKE2FS} failed ({}): {}",
        output.status,
        words.join("; ")
    );
    Ok(())
}

fn find(path: &std::ffi::OsStr) -> anyhow::Result<PathBuf> {
    env::split_paths(path)
        .chain(FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(MKE2FS))
        .find(|program| program.is_file())
        .with_context(|| {
            format!("cannot make its file system: there is no {MKE2FS} (package {PACKAGE})")
        })
}
