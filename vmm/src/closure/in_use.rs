//! That a machine's store paths are in use: Nix's garbage collector keeps what a process has open,
//! with all that it refers to.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use super::StorePath;

/// Store paths that Nix keeps as long as this lives: those that a file names, and more.
///
/// Nix finds them in `/proc` (`nix-store --gc --print-roots`), so it has to be root's or this
/// user's. Of a list of paths, those alone are kept that the file itself names or refers to.
#[derive(Debug)]
pub struct InUse {
    /// Being open is what they are for.
    open: Vec<OwnedFd>,
}

impl InUse {
    /// Has Nix keep these. What is not there cannot be collected.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let mut in_use = Self { open: Vec::new() };
        in_use.add(paths);
        in_use
    }

    /// Has Nix keep these as well.
    pub fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a StorePath>) {
        let path_alone = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = paths
            .into_iter()
            .filter_map(|path| open(path.as_str(), path_alone, Mode::empty()).ok());
        self.open.extend(open);
    }
}
