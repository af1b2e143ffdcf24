//! What a closure is known by in folders of state.

use std::collections::BTreeSet;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::tree::Root;

/// Of all that decides what a tree is written as: another one makes other files.
const VERSION: u32 = 1;

/// A name for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// That of these entries of `root`, the same as long as nobody builds one of them again.
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
        Ok(Self(digits(hash)))
    }

    /// That of entries of these names, whoever has built them and when: on this host and in an emulated
    /// one it is the same.
    pub fn of_names(names: &BTreeSet<&str>) -> Self {
        let mut hash = Sha256::new();
        for name in names {
            hash.update(format!("{name}\n"));
        }
        Self(digits(hash))
    }

    /// The same of a machine that sees all of the store, by the paths that its file names.
    pub fn of_all(roots: &BTreeSet<&str>) -> Self {
        let Self(digits) = Self::of_names(roots);
        Self(format!("all-{digits}"))
    }

    /// The same of what is marked so, letters and digits, and of nothing else of these entries.
    pub fn marked(self, mark: &str) -> Self {
        Self(format!("{}-{mark}", self.0))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn digits(hash: Sha256) -> String {
    let digest: [u8; 32] = hash.finalize().into();
    digest.map(|byte| format!("{byte:02x}")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_store_and_a_part_of_it_are_known_apart() {
        let [one, two] = ["one", "two"].map(|name| BTreeSet::from([name]));
        let keys = [
            Key::of_names(&one),
            Key::of_names(&two),
            Key::of_names(&BTreeSet::from(["one", "two"])),
            Key::of_all(&one),
            Key::of_names(&one).marked("1"),
            Key::of_names(&one).marked("2"),
        ];
        let names: BTreeSet<_> = keys.iter().map(Key::as_str).collect();
        assert_eq!(names.len(), keys.len());
        assert_eq!(Key::of_names(&one), keys[0]);
    }
}
