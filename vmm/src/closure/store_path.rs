//! The name of one thing in the store: `/nix/store/<hash>-<name>`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The folder of the store. It is part of each path's hash, so no Nix store is elsewhere.
pub const STORE_DIR: &str = "/nix/store";

const PREFIX: &str = "/nix/store/";

/// Characters of the hash: 160 bits in base 32.
const HASH_LEN: usize = 32;

/// Characters of the name (Nix's `StorePath::MaxPathLen`).
const MAX_NAME_LEN: usize = 211;

/// A path directly in the store, well-formed, whether there is such a thing or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(String);

impl StorePath {
    /// The whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<hash>-<name>`.
    pub fn base_name(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or(&self.0)
    }

    /// The store path that `path` is or is in.
    pub fn containing(path: &Path) -> Option<Self> {
        let first = path.strip_prefix(STORE_DIR).ok()?.components().next()?;
        Path::new(STORE_DIR).join(first).to_str()?.parse().ok()
    }

    /// Whether the host's store has it, be it a symbolic link to nothing.
    pub fn exists(&self) -> bool {
        Path::new(&self.0).symlink_metadata().is_ok()
    }

    /// Each store path that `text` has anywhere in it.
    pub fn all_in(text: &str) -> impl Iterator<Item = Self> {
        text.match_indices(PREFIX).filter_map(|(at, _)| {
            let base = &text[at + PREFIX.len()..];
            let len = base
                .bytes()
                .position(|byte| !is_name_byte(byte))
                .unwrap_or(base.len());
            format!("{PREFIX}{}", &base[..len]).parse().ok()
        })
    }
}

impl FromStr for StorePath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let base = text.strip_prefix(PREFIX).ok_or(())?;
        let (hash, name) = base.split_at_checked(HASH_LEN).ok_or(())?;
        let name = name.strip_prefix('-').ok_or(())?;
        let is_good = hash.bytes().all(is_hash_byte)
            && (1..=MAX_NAME_LEN).contains(&name.len())
            && name.bytes().all(is_name_byte);
        if is_good {
            Ok(Self(text.into()))
        } else {
            Err(())
        }
    }
}

/// Nix's base 32: digits and small letters, less e, o, u and t.
const fn is_hash_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'd' | b'f'..=b'n' | b'p'..=b's' | b'v'..=b'z')
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b'?' | b'=')
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for StorePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASH: &str = "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash-5.2.15";

    #[test]
    fn a_store_path_has_a_hash_and_a_name() {
        let path: StorePath = BASH.parse().expect("well-formed");
        assert_eq!(
            path.base_name(),
            "4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash-5.2.15"
        );
    }

    #[test]
    fn what_is_no_store_path_is_refused() {
        let long = format!("{BASH}{}", "x".repeat(MAX_NAME_LEN));
        for text in [
            "",
            "/nix/store/",
            "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7",
            "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-",
            "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f-bash",
            "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-bash",
            "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash/bin",
            "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash\n",
            "/nix/store/éééééééééééééééé-bash",
            "nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash",
            &long,
        ] {
            assert_eq!(text.parse::<StorePath>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_path_inside_names_its_store_path() {
        let inside = Path::new(BASH).join("bin/bash");
        assert_eq!(StorePath::containing(&inside), BASH.parse().ok());
        assert_eq!(StorePath::containing(Path::new("/nix/store")), None);
        assert_eq!(StorePath::containing(Path::new("/usr/bin/env")), None);
        assert_eq!(StorePath::containing(Path::new("/nix/store/../etc")), None);
    }

    #[test]
    fn a_text_gives_all_its_store_paths() {
        let text = format!("PATH={BASH}/bin:{BASH}x,/nix/store/short-x;{BASH}");
        let found: Vec<String> = StorePath::all_in(&text)
            .map(|path| path.to_string())
            .collect();
        assert_eq!(
            found,
            [BASH.to_string(), format!("{BASH}x"), BASH.to_string()]
        );
    }
}
