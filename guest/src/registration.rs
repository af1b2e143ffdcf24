//! What makes store paths valid in the guest's own Nix database.
//!
//! The one thing to know: paths of the host's store that nothing keeps would be hidden by the guest's
//! garbage collector, and hidden they would stay where a volume keeps what it did. So what the
//! machine was made from is a root of that collector. nix-store(1), `--load-db`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Reads from standard input what a Nix knows of store paths. The first argument is its `nix-store`,
/// the others are the paths that the rest is there for.
pub const REGISTER: &str = "register";

/// The links that keep those.
const ROOTS: &str = "/nix/var/nix/gcroots/mvm";

/// Carries the role out.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let Some((nix_store, roots)) = arguments.split_first() else {
        bail!("{REGISTER} needs a nix-store");
    };
    keep(Path::new(ROOTS), roots).with_context(|| format!("cannot make the links in {ROOTS}"))?;
    let loaded = Command::new(nix_store)
        // There are no users for builds yet whose group would be named.
        .args(["--load-db", "--option", "build-users-group", ""])
        .stdout(Stdio::null())
        .status();
    let name = nix_store.display();
    let loaded = loaded.with_context(|| format!("cannot run {name}"))?;
    ensure!(loaded.success(), "{name} --load-db failed ({loaded})");
    Ok(())
}

/// Has `folder` have a link to each of `roots`, and no other.
fn keep(folder: &Path, roots: &[OsString]) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(folder)?,
    }
    for root in roots {
        let name = Path::new(root).file_name().unwrap_or(root);
        symlink(root, folder.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_are_those_of_this_start() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("gcroots/mvm");
        keep(&folder, &["/nix/store/a".into(), "/nix/store/b".into()]).unwrap();
        keep(&folder, &["/nix/store/c".into()]).unwrap();
        let names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["c"]);
        let target = fs::read_link(folder.join("c")).unwrap();
        assert_eq!(target, Path::new("/nix/store/c"));
    }
}
