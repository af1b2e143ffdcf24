//! Programs of the store that no `PATH` names: a machine sees a closure, and all programs in it
//! belong to what runs there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const STORE: &str = "/nix/store";

/// Paths of the store that are looked into; a whole store is not a program's closure.
const PATHS_MAX: usize = 8192;

/// Bytes of a `PATH` that are added; the kernel takes 128 KiB for one variable (`MAX_ARG_STRLEN`).
const SEARCH_PATH_MAX: usize = 64 << 10;

/// Shells, best first, by their place in a folder for programs; the second is what it is told to be.
const SHELLS: [(&str, &str); 3] = [("bash", "bash"), ("sh", "sh"), ("busybox", "sh")];

/// A shell: its file, and its name as it is told.
pub(super) struct Shell {
    pub(super) path: PathBuf,
    pub(super) name: &'static str,
}

/// The folders of the store's programs.
pub(super) fn folders() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(STORE) else {
        return Vec::new();
    };
    let folders = entries.take(PATHS_MAX).flatten();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.path().join("bin"))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

/// `path`, and behind it the store's folders.
pub(super) fn search_path(path: &str) -> OsString {
    let mut all = path.as_bytes().to_vec();
    for folder in folders() {
        let folder = folder.as_os_str().as_bytes();
        if all.len() + 1 + folder.len() > SEARCH_PATH_MAX {
            break;
        }
        all.push(b':');
        all.extend_from_slice(folder);
    }
    OsString::from_vec(all)
}

/// The first shell that one of the folders of `path` has.
pub(super) fn shell(path: &OsStr) -> Option<Shell> {
    let folders: Vec<_> = path.as_bytes().split(|byte| *byte == b':').collect();
    SHELLS.iter().find_map(|(file, name)| {
        let mut paths = folders
            .iter()
            .map(|folder| Path::new(OsStr::from_bytes(folder)).join(file));
        let path = paths.find(|path| path.is_file())?;
        Some(Shell { path, name })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_shell_of_all_folders_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| parent.path().join(name));
        for folder in [&one, &other] {
            fs::create_dir(folder).unwrap();
        }
        let path = std::env::join_paths([&one, &other]).unwrap();
        assert!(shell(&path).is_none());
        fs::write(one.join("busybox"), "").unwrap();
        assert_eq!(shell(&path).unwrap().name, "sh");
        fs::write(other.join("bash"), "").unwrap();
        assert_eq!(shell(&path).unwrap().path, other.join("bash"));
    }
}
