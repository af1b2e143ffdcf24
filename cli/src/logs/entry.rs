//! One line of a program's output, as it is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which of the program's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and all that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line. One that is long, or has no end, comes in pieces, each without a line feed but the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it came.
    pub time: Timestamp,
    /// From where.
    pub stream: Stream,
    /// With its line feed; what is not UTF-8 is replaced by U+FFFD.
    pub text: String,
}
