//! Where this user keeps what outlives a machine's run: volumes, and machines that are kept.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Moves the folder: for a set of machines of its own, and where this process's user is not the one
/// who is meant, as in an emulated host.
pub const VARIABLE: &str = "MVM_STATE_DIR";

/// Moves this folder, to `state` in it, and that of the machines that run, unless those have variables
/// of their own.
pub const HOME_VARIABLE: &str = "MVM_HOME";

/// Names the folder that systemd makes for a service (`StateDirectory=`).
const SERVICE_VARIABLE: &str = "STATE_DIRECTORY";

/// `$MVM_STATE_DIR`, else `$MVM_HOME/state`, else `$STATE_DIRECTORY`, else `/var/lib/mvm` for root,
/// else `$XDG_STATE_HOME/mvm`, by default `~/.local/state/mvm`.
///
/// # Errors
/// The user has no home.
pub fn folder() -> anyhow::Result<PathBuf> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(folder) = absolute(VARIABLE) {
        return Ok(folder);
    }
    if let Some(home) = absolute(HOME_VARIABLE) {
        return Ok(home.join("state"));
    }
    if let Some(folder) = env::var_os(SERVICE_VARIABLE).and_then(|list| first(&list)) {
        return Ok(folder);
    }
    if rustix::process::getuid().is_root() {
        return Ok(Path::new("/var/lib/mvm").into());
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|folder| folder.join("mvm"))
        .context("cannot tell where to keep machines and volumes: neither $XDG_STATE_HOME nor $HOME is set")
}

/// The first folder of a list of systemd's (`RuntimeDirectory=` and the like), with ":" between
/// them.
pub fn first(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_bytes().split(|byte| *byte == b':').next()?;
    let path = PathBuf::from(OsStr::from_bytes(first));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_services_folders_the_first_is_used() {
        for (list, folder) in [
            ("/var/lib/web", Some("/var/lib/web")),
            ("/var/lib/web:/var/lib/other", Some("/var/lib/web")),
            ("", None),
            ("web", None),
        ] {
            assert_eq!(first(OsStr::new(list)), folder.map(PathBuf::from), "{list}");
        }
    }
}
