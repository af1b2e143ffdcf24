//! What is wrong with a file, one line each: `app.json:12:8: shares[1].mountPoint: must be ...`.
//!
//! A [`Complaint`] knows the place in the file's structure; a [`Problem`] the line as well. The
//! two are apart because an [`super::App`] that did not come from a file has no lines.

use std::fmt;

use serde::Serialize;

use super::place::Place;

/// Something that cannot stay as it is at one place of an `App`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which value.
    pub place: Place,
    /// What is allowed and what was found.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Something that cannot stay as it is at one place of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name as the user gave it, on one line.
    pub file: String,
    /// Line, from 1; none if the file could not be read at all.
    pub line: Option<usize>,
    /// Column in characters, from 1; none if the file could not be read at all.
    pub column: Option<usize>,
    /// Which value, as in `shares[1].mountPoint`; empty for the whole file.
    pub path: String,
    /// What is allowed and what was found.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// All that is wrong with a file: at least one problem, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts by files, and by place in each.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        let place = |one: &Problem| (one.line, one.column);
        problems.sort_by(|one, other| {
            let files = one.file.cmp(&other.file);
            files.then_with(|| place(one).cmp(&place(other)))
        });
        Self(problems)
    }

    /// Adds a last word that has no place of its own.
    pub(super) fn push_last(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Each problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// One line for each problem.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
