//! The kernel modules that the initramfs brings along, for kernels whose drivers are not built in.

use std::fs::{self, File};
use std::io;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::system::finit_module;

/// Where they are, by names that sort in the order of their loading.
const FOLDER: &str = "/modules";

/// `MODULE_INIT_COMPRESSED_FILE` of `<linux/module.h>`: the kernel unpacks it.
const COMPRESSED: i32 = 4;

/// Loads all there are, and takes the files off, which are memory.
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
        let is_compressed = path.extension().is_none_or(|extension| extension != "ko");
        let flags = if is_compressed { COMPRESSED } else { 0 };
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        match finit_module(&file, c"", flags) {
            // Built in after all.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot load {}", path.display()));
            }
        }
    }
    // No harm but the memory if it stays.
    let _ = fs::remove_dir_all(FOLDER);
    Ok(())
}
