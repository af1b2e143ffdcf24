//! The closure filter: which names exist at the top of a share.
//!
//! It is asked only for names right below the root. Every other node is reached through one of
//! those, so nothing deeper needs a check; and a name that is not in the filter is answered
//! without a system call, as a name that will never exist.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;

use super::name::Name;

/// Sorted names.
type Names = Arc<[Box<[u8]>]>;

/// A set of names. Its copies are the same set.
#[derive(Clone, Debug)]
pub struct Filter {
    names: Arc<RwLock<Names>>,
    grows: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Filter {
    /// The filter that shows `paths`, each of which lies right below `root`. Order and
    /// repetitions do not matter.
    ///
    /// # Errors
    /// A path lies elsewhere.
    pub fn of_paths<P: AsRef<Path>>(
        root: &Path,
        paths: impl IntoIterator<Item = P>,
    ) -> anyhow::Result<Self> {
        Ok(Self::of(names_of(root, paths)?))
    }

    fn of(names: Vec<Box<[u8]>>) -> Self {
        Self {
            names: Arc::new(RwLock::new(sorted(names))),
            grows: false,
        }
    }

    /// The same, to which names may be added while a guest has it: it is not to remember of a name
    /// that it is not there.
    #[must_use]
    pub fn growing(self) -> Self {
        Self {
            grows: true,
            ..self
        }
    }

    /// Whether names may be added.
    pub(super) fn grows(&self) -> bool {
        self.grows
    }

    /// Shows `paths` as well.
    ///
    /// # Errors
    /// As [`Filter::of_paths`].
    pub fn extend<P: AsRef<Path>>(
        &self,
        root: &Path,
        paths: impl IntoIterator<Item = P>,
    ) -> anyhow::Result<()> {
        let mut names = names_of(root, paths)?;
        let mut shown = self.names.write().unwrap_or_else(PoisonError::into_inner);
        names.extend(shown.iter().cloned());
        *shown = sorted(names);
        Ok(())
    }

    /// Whether the share shows `name` at its top.
    pub fn shows(&self, name: Name<'_>) -> bool {
        self.names()
            .binary_search_by(|shown| (**shown).cmp(name.bytes()))
            .is_ok()
    }

    /// The names in order, as a listing of the root shows them.
    pub fn names(&self) -> Names {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&names)
    }
}

fn sorted(mut names: Vec<Box<[u8]>>) -> Names {
    names.sort_unstable();
    names.dedup();
    names.into()
}

/// What paths right below `root` are called.
fn names_of<P: AsRef<Path>>(
    root: &Path,
    paths: impl IntoIterator<Item = P>,
) -> anyhow::Result<Vec<Box<[u8]>>> {
    let name = |path: P| {
        let path = path.as_ref();
        let name = path
            .strip_prefix(root)
            .ok()
            .and_then(|below| Name::new(below.as_os_str().as_bytes()).ok())
            .with_context(|| {
                let (path, root) = (path.display(), root.display());
                format!("cannot show {path}: it is not directly below {root}")
            })?;
        Ok(name.bytes().into())
    };
    paths.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_closure_and_nothing_else() {
        let paths = ["/nix/store/b-two", "/nix/store/a-one", "/nix/store/b-two"];
        let filter = Filter::of_paths(Path::new("/nix/store"), paths).unwrap();
        let shown = |name: &[u8]| filter.shows(Name::new(name).unwrap());
        assert!(shown(b"a-one"));
        assert!(shown(b"b-two"));
        assert!(!shown(b"b-tw"));
        assert!(!shown(b"c-three"));
        assert!(!shown(b".links"));
        assert_eq!(filter.names().len(), 2);
    }

    #[test]
    fn what_is_added_is_shown_by_each_copy() {
        let root = Path::new("/nix/store");
        let filter = Filter::of_paths(root, ["/nix/store/b"]).unwrap();
        let copy = filter.clone();
        filter
            .extend(root, ["/nix/store/c", "/nix/store/a", "/nix/store/b"])
            .unwrap();
        let names = copy.names();
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            [b"a", b"b", b"c"]
        );
        filter.extend(root, ["/etc"]).unwrap_err();
    }

    #[test]
    fn a_path_elsewhere_is_an_error() {
        for path in [
            "/etc",
            "/nix/store",
            "/nix/store/a/b",
            "/nix/store/../x",
            "a",
        ] {
            let error = Filter::of_paths(Path::new("/nix/store"), [path]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("cannot show {path}: it is not directly below /nix/store")
            );
        }
    }
}
