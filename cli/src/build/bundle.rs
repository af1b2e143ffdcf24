//! A bundle of an app.json: see `vmm::bundle` for what it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use vmm::app::AppFile;
use vmm::bundle::{OwnParts, Parts, SystemPart, write};
use vmm::kernel;
use vmm::toplevel::Toplevel;

use super::contents::{Contents, tree};
use super::tree::Tree;
use super::{Work, closure, erofs};
use crate::init_binary;

/// Makes one; returns its length in bytes.
///
/// # Errors
/// A part cannot be had, or the file not be written.
pub fn bundle(work: Work<'_>) -> Result<u64> {
    match Toplevel::of(&work.file.app)? {
        None => with_disk(work),
        Some(own) => with_tree(work, &own),
    }
}

/// One whose store is a disk, which init mounts.
fn with_disk(mut work: Work<'_>) -> Result<u64> {
    let kernel = kernel_of(work.file)?;
    let mut store: Box<dyn Read> = match closure(work.file)? {
        None => Box::new(io::empty()),
        Some(paths) => {
            work.progress.tell("copying the closure");
            let tree = Tree::copy(&paths, work.target.folder(), &work.interrupt)?;
            work.progress.tell("packing the closure");
            Box::new(erofs::make(tree.path(), work.target.folder())?)
        }
    };
    work.interrupt.check()?;
    put(&mut work, &kernel, &mut store, None)?;
    work.target.keep()
}

/// One of a system whose stage 1 mounts its store, as a share of the host.
fn with_tree(mut work: Work<'_>, own: &Toplevel) -> Result<u64> {
    work.progress.tell("looking at the closure");
    let paths = closure(work.file)?.unwrap_or_default();
    let (nodes, files) = tree(&paths, &work.interrupt)?;
    let facts = own.pack()?;
    let system = SystemPart { facts, nodes }.encode()?;
    let interrupt = work.interrupt.clone();
    let mut store = Contents::of(files, &interrupt);
    let stage_1 = Some((&*system, &*own.initrd));
    put(&mut work, &own.kernel, &mut store, stage_1)?;
    work.target.keep()
}

/// Writes it; with what is known of a system and its initrd, if it is one that brings that.
fn put(
    work: &mut Work<'_>,
    kernel: &Path,
    store: &mut dyn Read,
    own: Option<(&[u8], &Path)>,
) -> Result<()> {
    work.progress.tell("writing the bundle");
    let mut initrd = own.map(|(_, initrd)| open(initrd)).transpose()?;
    let stage_1 = own.zip(initrd.as_mut());
    let parts = Parts {
        own: stage_1.map(|((system, _), initrd)| OwnParts { system, initrd }),
        kernel: &mut open(kernel)?,
        init: &mut open(&init_binary::find()?)?,
        app: &mut work.file.text().as_bytes(),
        store,
    };
    let shown = work.target.path().display().to_string();
    write(work.target.file(), parts).with_context(|| format!("cannot write {shown}"))?;
    work.interrupt.check()
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A kernel that needs no modules, since a bundle has none.
fn kernel_of(file: &AppFile) -> Result<PathBuf> {
    let Some(path) = &file.app.kernel.path else {
        return kernel::find_own();
    };
    let kernel = kernel::find(Some(path))?;
    if !kernel::is_elf(&kernel) {
        bail!(
            "kernel.path: {} is no vmlinux, and may keep its drivers in modules, which a bundle has none of",
            kernel.display()
        );
    }
    Ok(kernel)
}
