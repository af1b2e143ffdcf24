//! The guests' kernel in the emulated host's own memory, where it is read once.
//!
//! The one thing to know: of the host's files outside the store nothing is kept from one command to
//! the next, so that each machine would read the pages of its kernel from the host again.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use vmm::kernel::is_elf;

/// The emulated host's own memory.
const FOLDER: &str = "/dev/shm";

/// What copies are called, before their version.
const PREFIX: &str = "mvm-kernel-";

/// After this no command that looked for a copy has still to open it.
const OLD: Duration = Duration::from_secs(60);

/// The same kernel as a file in memory; `kernel` itself where that cannot be had.
pub fn in_memory(kernel: PathBuf) -> PathBuf {
    copy_in(Path::new(FOLDER), &kernel).unwrap_or(kernel)
}

fn copy_in(folder: &Path, kernel: &Path) -> io::Result<PathBuf> {
    // Others are read once, from the beginning to the end.
    if !is_elf(kernel) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let copy = folder.join(name(&fs::metadata(kernel)?));
    if let Ok(file) = File::options().append(true).open(&copy) {
        // It is not old: this command is about to open it.
        file.set_modified(SystemTime::now())?;
        return Ok(copy);
    }
    remove_old(folder);
    // Whole or not at all, whoever else makes it just now.
    let new = folder.join(format!("{PREFIX}{}.new", std::process::id()));
    let made = fs::copy(kernel, &new).and_then(|_| fs::rename(&new, &copy));
    if let Err(error) = made {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    Ok(copy)
}

/// Another version has another name.
fn name(facts: &Metadata) -> String {
    let (device, inode, size) = (facts.dev(), facts.ino(), facts.size());
    let (seconds, nanoseconds) = (facts.mtime(), facts.mtime_nsec());
    format!("{PREFIX}{device:x}-{inode:x}-{size:x}-{seconds:x}.{nanoseconds:x}")
}

/// Removes versions that no command can be about to open; machines that run keep what they have
/// mapped.
fn remove_old(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let is_copy = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let made = entry.metadata().and_then(|facts| facts.modified());
        if is_copy && made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > OLD)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel of this content in a new folder.
    fn kernel(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinux");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn it_is_copied_once_and_again_when_it_has_changed() {
        let memory = tempfile::tempdir().unwrap();
        let (_host, kernel) = kernel(b"\x7fELF first");
        let first = copy_in(memory.path(), &kernel).unwrap();
        assert_eq!(fs::read(&first).unwrap(), b"\x7fELF first");
        fs::write(&first, "not read again").unwrap();
        assert_eq!(copy_in(memory.path(), &kernel).unwrap(), first);
        assert_eq!(fs::read(&first).unwrap(), b"not read again");

        fs::write(&kernel, b"\x7fELF the second").unwrap();
        let second = copy_in(memory.path(), &kernel).unwrap();
        assert_eq!(fs::read(&second).unwrap(), b"\x7fELF the second");
        assert!(first.exists(), "a command may be about to open it");
    }

    #[test]
    fn what_is_not_mapped_is_taken_as_it_is() {
        let (folder, compressed) = kernel(b"bzImage");
        for path in [
            folder.path().join("none"),
            folder.path().to_owned(),
            compressed,
        ] {
            assert_eq!(in_memory(path.clone()), path);
        }
    }

    #[test]
    fn old_copies_are_removed_and_nothing_else() {
        let memory = tempfile::tempdir().unwrap();
        let long_ago = SystemTime::now() - 2 * OLD;
        for name in ["other", "mvm-kernel-1.new", "mvm-kernel-1"] {
            let file = File::create(memory.path().join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        fs::write(memory.path().join("mvm-kernel-2"), "").unwrap();
        let (_host, kernel) = kernel(b"\x7fELF");
        let copy = copy_in(memory.path(), &kernel).unwrap();
        let entries = fs::read_dir(memory.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut expected = [
            memory.path().join("mvm-kernel-2"),
            memory.path().join("other"),
            copy,
        ];
        expected.sort();
        assert_eq!(left, expected);
    }
}
