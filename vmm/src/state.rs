//! Where this user keeps what outlives a machine's run: volumes, and machines that are kept.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Moves the folder: for a set of machines of its own, and where this process's user is not the one
/// who is meant, as in an emulated host.
pub const VARIABLE: &str = "MVM_STATE_DIR";

/// `$MVM_STATE_DIR`, else `/var/lib/mvm` for root, else `$XDG_STATE_HOME/mvm`, by default
/// `~/.local/state/mvm`.
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
    if rustix::process::getuid().is_root() {
        return Ok(Path::new("/var/lib/mvm").into());
    }
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|folder| folder.join("mvm"))
        .context("cannot tell where to keep machines and volumes: neither $XDG_STATE_HOME nor $HOME is set")
}
