//! Where mvm keeps what: running machines in the runtime folder, kept ones in the state folder.
//!
//! The one thing to know: `MVM_HOME` moves all of it, and `MVM_RUNTIME_DIR` and `MVM_STATE_DIR` a part
//! each, so that two sets of machines do not see each other. Without them the folders are those that
//! systemd made for the service that this process is, else those of the XDG base directory
//! specification, and for root `/run/mvm` and `/var/lib/mvm`.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
pub use vmm::state::{HOME_VARIABLE, VARIABLE as STATE_VARIABLE, folder as state};

use crate::accel::host_user;

/// Moves the runtime folder.
pub const RUNTIME_VARIABLE: &str = "MVM_RUNTIME_DIR";

/// Names the folder that systemd makes for a service (`RuntimeDirectory=`).
const SERVICE_VARIABLE: &str = "RUNTIME_DIRECTORY";

/// The folder of the machines that run: `$MVM_RUNTIME_DIR`, else `$MVM_HOME/run`, else
/// `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/mvm`. Without a runtime directory it is `/tmp/mvm-UID`.
pub fn runtime() -> PathBuf {
    let home = || Some(variable(HOME_VARIABLE)?.join("run"));
    if let Some(path) = variable(RUNTIME_VARIABLE).or_else(home) {
        return path;
    }
    let uid = rustix::process::getuid();
    let of_service = || vmm::state::first(&env::var_os(SERVICE_VARIABLE)?);
    match (of_service(), variable("XDG_RUNTIME_DIR")) {
        (Some(path), _) => path,
        _ if uid.is_root() => PathBuf::from("/run/mvm"),
        (_, Some(path)) if path.is_dir() => path.join("mvm"),
        _ => PathBuf::from(format!("/tmp/mvm-{}", uid.as_raw())),
    }
}

/// Makes `path`, where only this user may write.
///
/// # Errors
/// It cannot be made, or somebody else may write to it.
pub fn private(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let metadata =
        fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    // In the emulated host this user is root, and his files there are those of the user outside.
    let users = [rustix::process::getuid().as_raw(), host_user().0];
    ensure!(
        metadata.is_dir() && users.contains(&metadata.uid()) && metadata.mode() & 0o022 == 0,
        "cannot use {}: it must be a folder that belongs to this user and that no other may write",
        path.display()
    );
    Ok(())
}

/// An absolute path from the environment; the specification has others ignored.
fn variable(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(name)?);
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mvm");
        private(&path).unwrap();
        private(&path).unwrap();
        let open = PermissionsExt::from_mode(0o777);
        fs::set_permissions(&path, open).unwrap();
        let error = private(&path).unwrap_err().to_string();
        assert!(error.starts_with("cannot use "), "{error}");
    }
}
