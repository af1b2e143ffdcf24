//! The kernel modules that the initramfs brings along, for kernels whose drivers are not built in.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::system::finit_module;

/// Where they are, beside what another archive may have there, by names that sort in the order of their loading.
const FOLDER: &str = "/mvm-modules";

/// Loads all there are, and takes the files off, which are memory. One that cannot be loaded is told
/// in the kernel log: whether it is missed is found by whoever needs it.
///
/// All of them before the host is greeted: it is through one of them that it can be.
pub(super) fn load() -> Result<()> {
    let entries = match fs::read_dir(FOLDER) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {FOLDER}")),
    };
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()
        .with_context(|| format!("cannot list {FOLDER}"))?;
    paths.sort();
    for path in paths {
        if let Err(error) = load_file(&path) {
            // <3> is KERN_ERR.
            let record = format!("<3>mvm-init: cannot load {}: {error}\n", path.display());
            let _ = fs::write("/dev/kmsg", record);
        }
    }
    // No harm but the memory if it stays.
    let _ = fs::remove_dir_all(FOLDER);
    Ok(())
}

fn load_file(path: &Path) -> io::Result<()> {
    Ok(finit_module(&File::open(path)?, c"", 0)?)
}
