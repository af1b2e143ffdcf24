//! A place in a JSON file, written the way a user would: `shares[1].mountPoint`.
//!
//! Leaves out where in the text that is; [`super::document::Document`] knows.

use std::borrow::Cow;
use std::fmt;

/// One step from an object or a list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of this key.
    Key(Cow<'static, str>),
    /// The item with this index, from 0.
    Index(usize),
}

/// The steps from the whole file to one value in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Vec<Step>);

impl Place {
    /// The whole file.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The value of `key` in the object at this place.
    #[must_use]
    pub fn key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(Step::Key(key.into()));
        self
    }

    /// The item `index` of the list at this place.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    /// The place one more step inside.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether this place is `other` or inside it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this place is in `other`, or is a part of what `other` is directly.
    pub fn concerns(&self, other: &Self) -> bool {
        let parent = self.0.split_last().map(|(_, steps)| steps);
        other.is_within(self) || parent == Some(&other.0)
    }

    pub(super) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(super) fn pop(&mut self) -> Option<Step> {
        self.0.pop()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if !is_plain(key) => write!(f, "[{}]", super::quote::quoted(key))?,
                Step::Key(key) if nth == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

/// Whether a key can stand in a path without quotes.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= super::quote::MAX_QUOTED_CHARS
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_the_user_would_write_it() {
        let place = Place::root().key("shares").index(1).key("mountPoint");
        assert_eq!(place.to_string(), "shares[1].mountPoint");
    }

    #[test]
    fn a_key_with_other_characters_is_quoted() {
        let place = Place::root().key("app").key("env").key("A B\n");
        assert_eq!(place.to_string(), r#"app.env["A B\n"]"#);
    }

    #[test]
    fn a_place_is_within_itself_and_its_parents() {
        let share = Place::root().key("shares").index(1);
        assert!(share.clone().key("tag").is_within(&share));
        assert!(share.is_within(&share));
        assert!(!share.is_within(&Place::root().key("shares").index(2)));
    }
}
