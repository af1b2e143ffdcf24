//! Where a user's volumes are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Set where this process' user is not the one whose volumes are meant, as in an emulated host.
pub const VARIABLE: &str = "MVM_STATE_DIR";

/// `$MVM_STATE_DIR`, else `/var/lib/mvm` for root, else `$XDG_STATE_HOME/mvm`, by default
/// `~/.local/state/mvm`.
///
/// # Errors
/// The user has no home.
pub fn state_folder() -> anyhow::Result<PathBuf> {
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
        .context("cannot tell where volumes are: neither $XDG_STATE_HOME nor $HOME is set")
}
