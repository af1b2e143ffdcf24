//! The files of a store path as Nix knows them: folders, links, and files that are programs or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Modes of what is in a store.
pub const FOLDER_MODE: u32 = 0o555;
/// Of programs.
pub const PROGRAM_MODE: u32 = 0o555;
/// Of other files.
pub const FILE_MODE: u32 = 0o444;

/// What one is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its length in bytes.
        bytes: u64,
        /// [`PROGRAM_MODE`] or [`FILE_MODE`].
        mode: u32,
    },
    /// A symbolic link to this.
    Link(PathBuf),
}

/// Calls `visit` for `root` and all below it, folders before what is in them, sorted by name.
///
/// # Errors
/// `visit` does not want to go on, or something cannot be read, or is nothing that a store has.
pub fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &Kind) -> Result<()>) -> Result<()> {
    let mut waiting = vec![root.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let shown = path.display();
        let kind = kind(&path).with_context(|| format!("cannot read {shown}"))?;
        visit(&path, &kind)?;
        if kind != Kind::Folder {
            continue;
        }
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.with_context(|| format!("cannot read folder {shown}"))?;
        let mut inside: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        // The last one is next.
        inside.sort_unstable_by(|one, other| other.as_os_str().cmp(one.as_os_str()));
        waiting.append(&mut inside);
    }
    Ok(())
}

fn kind(path: &Path) -> Result<Kind> {
    let facts = fs::symlink_metadata(path)?;
    let is_program = facts.permissions().mode() & 0o100 != 0;
    Ok(if facts.is_dir() {
        Kind::Folder
    } else if facts.is_symlink() {
        Kind::Link(fs::read_link(path)?)
    } else if facts.is_file() {
        let mode = if is_program { PROGRAM_MODE } else { FILE_MODE };
        let bytes = facts.len();
        Kind::File { bytes, mode }
    } else {
        bail!("it is neither a file nor a folder nor a link")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_is_visited_in_one_order_and_with_few_modes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("b/empty")).unwrap();
        fs::write(at("b/z"), "12345").unwrap();
        fs::write(at("b.txt"), "").unwrap();
        symlink("no/where", at("a")).unwrap();
        fs::set_permissions(at("b/z"), fs::Permissions::from_mode(0o710)).unwrap();
        let mut seen = Vec::new();
        walk(folder.path(), &mut |path, kind| {
            let name = path.strip_prefix(folder.path())?.to_string_lossy();
            seen.push(format!("{name} {kind:?}"));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen,
            [
                " Folder",
                "a Link(\"no/where\")",
                "b Folder",
                "b/empty Folder",
                "b/z File { bytes: 5, mode: 365 }",
                "b.txt File { bytes: 0, mode: 292 }",
            ]
        );
    }

    #[test]
    fn what_no_store_has_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = walk(folder.path(), &mut |_, _| Ok(())).unwrap_err();
        let expected = format!(
            "cannot read {}: it is neither a file nor a folder nor a link",
            path.display()
        );
        assert_eq!(format!("{error:#}"), expected);
    }
}
