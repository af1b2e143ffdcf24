//! Names: the first of the three walls around a share.
//!
//! The only guest bytes that reach a system call as part of a path are those of a [`Name`], and
//! a `Name` is one component: it cannot climb, descend or be absolute.

use rustix::io::Errno;

/// `NAME_MAX`. Guests allow more (`FUSE_NAME_MAX`), but no name of a host's file is longer.
pub const NAME_BYTES_MAX: usize = 255;

/// Longer names are kept on the heap. What makes a node 64 bytes: see [`super::nodes`].
const SHORT_BYTES: usize = 22;

/// One path component, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks a component.
    ///
    /// # Errors
    /// `ENAMETOOLONG`; `EINVAL` for nothing, `.`, `..` and anything with a slash or a NUL in it.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let climbs = matches!(bytes, b"" | b"." | b"..");
        if climbs || bytes.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(Errno::INVAL);
        }
        Ok(Self(bytes))
    }

    /// The component's bytes, in no particular encoding.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A name that a node keeps, 24 bytes in place.
#[derive(Clone, Debug)]
pub enum OwnName {
    /// Nearly all names of a store.
    Short {
        /// Bytes used.
        len: u8,
        /// The name, then zeros.
        bytes: [u8; SHORT_BYTES],
    },
    /// The others.
    Long(Box<[u8]>),
}

impl OwnName {
    /// The name of the root, which has none.
    pub const ROOT: Self = Self::Short {
        len: 0,
        bytes: [0; SHORT_BYTES],
    };

    /// The name's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    /// Bytes beyond the 24 in place.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl From<Name<'_>> for OwnName {
    fn from(name: Name<'_>) -> Self {
        let mut bytes = [0; SHORT_BYTES];
        match bytes.get_mut(..name.0.len()) {
            Some(place) => {
                place.copy_from_slice(name.0);
                // At most `SHORT_BYTES`.
                let len = name.0.len() as u8;
                Self::Short { len, bytes }
            }
            None => Self::Long(name.0.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_component_is_a_name() {
        let long = [b'a'; 256];
        let table: &[(&[u8], Result<(), Errno>)] = &[
            (b"bash", Ok(())),
            (b"...", Ok(())),
            (b"..a", Ok(())),
            (b" ", Ok(())),
            (b"\xff\n\x1b", Ok(())),
            (&long[..255], Ok(())),
            (&long, Err(Errno::NAMETOOLONG)),
            (b"", Err(Errno::INVAL)),
            (b".", Err(Errno::INVAL)),
            (b"..", Err(Errno::INVAL)),
            (b"/", Err(Errno::INVAL)),
            (b"/etc", Err(Errno::INVAL)),
            (b"a/b", Err(Errno::INVAL)),
            (b"a/", Err(Errno::INVAL)),
            (b"a\0b", Err(Errno::INVAL)),
        ];
        for (bytes, expected) in table {
            assert_eq!(Name::new(bytes).map(|_| ()), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_kept_name_is_the_name() {
        for len in 1..=NAME_BYTES_MAX {
            let bytes = vec![b'n'; len];
            let kept = OwnName::from(Name::new(&bytes).unwrap());
            assert_eq!(kept.bytes(), bytes);
        }
        assert_eq!(size_of::<OwnName>(), 24);
    }
}
