//! A bundle of an app.json: see `vmm::bundle` for what it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use vmm::app::AppFile;
use vmm::bundle::{Parts, write};
use vmm::kernel;

use super::tree::Tree;
use super::{Work, closure, erofs};
use crate::init_binary;

/// Makes one; returns its length in bytes.
///
/// # Errors
/// A part cannot be had, or the file not be written.
pub fn bundle(mut work: Work<'_>) -> Result<u64> {
    let kernel = kernel_of(work.file)?;
    let init = init_binary::find()?;
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
    work.progress.tell("writing the bundle");
    let open = |path: &PathBuf| {
        File::open(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let parts = Parts {
        kernel: &mut open(&kernel)?,
        init: &mut open(&init)?,
        app: &mut work.file.text().as_bytes(),
        store: &mut store,
    };
    let shown = work.target.path().display().to_string();
    write(work.target.file(), parts).with_context(|| format!("cannot write {shown}"))?;
    work.interrupt.check()?;
    work.target.keep()
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
