//! What makes a guest look at its store anew, after the host has shown it more.
//!
//! The one thing to know: the host lets no guest remember that a name is missing where names may
//! appear, but an overlay does so by itself, and listings are cached. That a file system is
//! reconfigured, with nothing changed, makes Linux drop each name of it that nobody uses
//! (`reconfigure_super`, `shrink_dcache_sb`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fspick};

/// Forgets what the guest knows of the names in its store.
pub const RENEW: &str = "renew-store";

const STORE: &str = "/nix/store";

/// Caches of content are dropped by a 1, which listings are among; names and nodes would be by a 2,
/// but not for sure.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Carries the role out.
pub(crate) fn run() -> Result<()> {
    fs::write(DROP_CACHES, "1").with_context(|| format!("cannot write {DROP_CACHES}"))?;
    forget_names(Path::new(STORE)).with_context(|| format!("cannot look at {STORE} anew"))
}

/// Drops the names of the file system that is mounted at `point`.
fn forget_names(point: &Path) -> rustix::io::Result<()> {
    fsconfig_reconfigure(fspick(CWD, point, FsPickFlags::FSPICK_CLOEXEC)?)
}
