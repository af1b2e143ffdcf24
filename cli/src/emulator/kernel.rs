//! The guests' kernel in the emulated host's own memory, where it is read once.
//!
//! The one thing to know: of the host's files nothing is kept from one command to the next, so that
//! each machine would read the pages of its kernel from the host again.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The emulated host's own memory.
const FOLDER: &str = "/dev/shm";

/// What copies are called, before their version.
const PREFIX: &str = "mvm-kernel-";

/// The same kernel as a file in memory; `kernel` itself where that cannot be had.
pub fn in_memory(kernel: PathBuf) -> PathBuf {
    copy_in(Path::new(FOLDER), &kernel).unwrap_or(kernel)
}

fn copy_in(folder: &Path, kernel: &Path) -> io::Result<PathBuf> {
    let facts = fs::metadata(kernel)?;
    // What is no kernel is told by its own name.
    if !facts.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let name = name(&facts);
    let copy = folder.join(&name);
    if copy.exists() {
        return Ok(copy);
    }
    // Whole or not at all, whoever else makes it just now.
    let new = folder.join(format!("{PREFIX}{}.new", std::process::id()));
    let made = fs::copy(kernel, &new).and_then(|_| fs::rename(&new, &copy));
    if let Err(error) = made {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    remove_others(folder, &name.into());
    Ok(copy)
}

/// Another version has another name.
fn name(facts: &Metadata) -> String {
    let (device, inode, size) = (facts.dev(), facts.ino(), facts.size());
    let (seconds, nanoseconds) = (facts.mtime(), facts.mtime_nsec());
    format!("{PREFIX}{device:x}-{inode:x}-{size:x}-{seconds:x}.{nanoseconds:x}")
}

/// Removes older versions; machines that run keep what they have mapped.
fn remove_others(folder: &Path, kept: &OsString) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        // Others are just being written.
        if text.starts_with(PREFIX) && !text.ends_with(".new") && name != *kept {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn it_is_copied_once_and_again_when_it_has_changed() {
        let (host, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kernel = host.path().join("vmlinux");
        fs::write(&kernel, "first").unwrap();
        let first = copy_in(memory.path(), &kernel).unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"first");
        fs::write(&first, "not read again").unwrap();
        assert_eq!(copy_in(memory.path(), &kernel).unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"not read again");

        fs::write(&kernel, "the second").unwrap();
        let second = copy_in(memory.path(), &kernel).unwrap();
        assert_eq!(fs::read(&second).unwrap(), b"the second");
        assert_eq!(names(memory.path()), [second.file_name().unwrap()]);
    }

    #[test]
    fn what_cannot_be_copied_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().join("none"), folder.path().to_owned()] {
            assert!(copy_in(folder.path(), &path).is_err());
        }
        let kernel = folder.path().join("vmlinux");
        fs::write(&kernel, "kernel").unwrap();
        assert!(copy_in(Path::new("/proc/self"), &kernel).is_err());
        assert_eq!(names(folder.path()), ["vmlinux"]);
    }

    #[test]
    fn only_copies_of_kernels_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("vmlinux");
        fs::write(&kernel, "kernel").unwrap();
        for name in ["other", "mvm-kernel-1.new", "mvm-kernel-1"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        copy_in(folder.path(), &kernel).unwrap();
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left.len(), 4, "{left:?}");
        assert!(!left.contains(&"mvm-kernel-1".into()));
    }
}
