//! The closure filter: which names exist at the top of a share.
//!
//! It is asked only for names right below the root. Every other node is reached through one of
//! those, so nothing deeper needs a check; and a name that is not in the filter is answered
//! without a system call, as a name that will never exist.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;

use super::name::Name;

/// A sorted set of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    names: Vec<Box<[u8]>>,
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
        let mut names = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let name = path
                .strip_prefix(root)
                .ok()
                .and_then(|below| Name::new(below.as_os_str().as_bytes()).ok())
                .with_context(|| {
                    let (path, root) = (path.display(), root.display());
                    format!("cannot show {path}: it is not directly below {root}")
                })?;
            names.push(name.bytes().into());
        }
        names.sort_unstable();
        names.dedup();
        Ok(Self { names })
    }

    /// Whether the share shows `name` at its top.
    pub fn shows(&self, name: Name<'_>) -> bool {
        self.names
            .binary_search_by(|shown| (**shown).cmp(name.bytes()))
            .is_ok()
    }

    /// The names in order, as a listing of the root shows them.
    pub fn names(&self) -> &[Box<[u8]>] {
        &self.names
    }
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
