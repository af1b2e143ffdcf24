//! Where an archive is unpacked to, by the rules of cp(1) and `docker cp`.
//!
//! The one thing to know: it is found before a byte of the archive is read, so that whoever unpacks
//! can give up all other files first.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};

use super::entries::{Item, Kind};

/// What the destination's path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A copy of one thing: into a folder that exists, else the copy's own name.
    Copy,
    /// An archive of anything: a folder that exists.
    Stream,
}

/// A folder that exists, and the name that the copy gets there.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    folder: OwnedFd,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// Under its own name.
    Inside,
    /// Under this name, which another file has.
    Replaces(OsString),
    /// Under this name, which nothing has.
    New {
        name: OsString,
        must_be_folder: bool,
    },
}

impl Destination {
    /// Looks at `path`; links on the way to it are followed.
    ///
    /// # Errors
    /// It is not there and its folder neither, or it is not what `form` asks for.
    pub fn find(path: &Path, form: Form) -> Result<Self> {
        let shown = path.display();
        let ends_with_slash = path.as_os_str().as_bytes().ends_with(b"/");
        let found = match fs::canonicalize(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot write to {shown}")),
        };
        let is_folder = found.as_ref().is_some_and(|found| found.is_dir());
        ensure!(
            is_folder || form == Form::Copy,
            "cannot write to {shown}: it is no folder"
        );
        let (place, target) = match found {
            Some(found) if is_folder => (found, Target::Inside),
            Some(found) => {
                ensure!(!ends_with_slash, "cannot write to {shown}: it is no folder");
                let name = found.file_name().context("it has no name")?.to_owned();
                (parent(&found), Target::Replaces(name))
            }
            None => {
                let Some(name) = path.file_name() else {
                    bail!("cannot write to {shown}: there is no such folder");
                };
                let target = Target::New {
                    name: name.to_owned(),
                    must_be_folder: ends_with_slash,
                };
                (parent(path), target)
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&place, flags, Mode::empty())
            .with_context(|| format!("cannot write to the folder {}", place.display()))?;
        Ok(Self {
            path: path.to_path_buf(),
            folder,
            target,
        })
    }

    /// The folder that all is written below.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The name that the archive's root gets instead of its own, given its first entry.
    pub(super) fn new_name(&self, first: &Item) -> Result<Option<&OsString>> {
        let shown = self.path.display();
        let is_folder = first.kind == Kind::Folder;
        match &self.target {
            Target::Inside => Ok(None),
            Target::Replaces(_) if is_folder => {
                bail!("cannot copy a folder to {shown}, which is a file")
            }
            Target::New {
                must_be_folder: true,
                ..
            } if !is_folder => bail!("cannot write to {shown}: there is no such folder"),
            Target::Replaces(name) | Target::New { name, .. } => Ok(Some(name)),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => ".".into(),
    }
}
