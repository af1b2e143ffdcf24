//! What a closure is known by in folders of state.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::tree::Root;

/// Of all that decides what a tree is written as: another one makes other files.
const VERSION: u32 = 1;

/// A name for a file: digits, the same for the same store paths as long as nobody builds them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// That of these entries of `root`.
    ///
    /// # Errors
    /// One cannot be looked at.
    pub fn of(root: &Root, names: &BTreeSet<&str>) -> Result<Self> {
        let mut hash = Sha256::new();
        hash.update(VERSION.to_le_bytes());
        for name in names {
            let (inode, seconds, nanoseconds) = root.mark(name)?;
            hash.update(format!("{name} {inode} {seconds} {nanoseconds}\n"));
        }
        let mut digits = String::new();
        for byte in hash.finalize() {
            write!(digits, "{byte:02x}")?;
        }
        Ok(Self(digits))
    }

    /// The same of a machine that sees all of the store, by the paths that its file names.
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn of_all(root: &Root, roots: &BTreeSet<&str>) -> Result<Self> {
        let Self(digits) = Self::of(root, roots)?;
        Ok(Self(format!("all-{digits}")))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
