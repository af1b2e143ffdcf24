//! What the emulated host has cached of the store, where paths appear and go but never change.
//!
//! The one thing to know: the store's own time says that a path was added or removed since the last
//! command. Then the cached names are dropped, since among them may be one that is gone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::folder::Folder;

/// The host's store.
const STORE: &str = "/nix/store";

/// Dentries and inodes that nobody uses (Documentation/admin-guide/sysctl/vm.rst).
const DROP_CACHES: (&str, &str) = ("/proc/sys/vm/drop_caches", "2");

/// The store's time of change, as it is compared; empty if there is no store.
fn time(store: &Path) -> String {
    let facts = fs::metadata(store);
    facts.map_or_else(
        |_| String::new(),
        |facts| format!("{}.{}", facts.ctime(), facts.ctime_nsec()),
    )
}

/// Notes the store's time for the emulated host that is about to start.
pub fn note(folder: &Folder) -> Result<()> {
    note_time(folder, &time(Path::new(STORE)))
}

/// The store's time if it has changed since it was noted. It is to be noted once the cached names
/// are dropped, not before: until then another command must find the same.
pub fn change(folder: &Folder) -> Result<Option<String>> {
    let now = time(Path::new(STORE));
    let before = match fs::read_to_string(folder.store_time()) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        other => other.context("cannot read the store's time")?,
    };
    Ok((now != before).then_some(now))
}

/// Notes that nothing older than `time` is cached.
pub fn note_time(folder: &Folder, time: &str) -> Result<()> {
    fs::write(folder.store_time(), time).context("cannot write the store's time")
}

/// Carries `mvm emulator forget` out, inside the emulated host.
pub fn forget() -> Result<()> {
    let (file, what) = DROP_CACHES;
    fs::write(file, what).with_context(|| format!("cannot write {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_path_changes_the_time() {
        let store = tempfile::tempdir().unwrap();
        let before = time(store.path());
        fs::create_dir(store.path().join("path")).unwrap();
        assert_ne!(time(store.path()), before);
    }

    #[test]
    fn a_host_without_a_store_has_no_time() {
        assert_eq!(time(Path::new("/no/such/store")), "");
    }
}
