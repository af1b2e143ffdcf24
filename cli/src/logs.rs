//! What a kept machine says: its program, its kernel, and mvm about it, in files of its folder; and
//! what a service's program says, in the journal.
//!
//! The one thing to know: the program's output is a line of JSON for each of its lines, so that the
//! streams can be told apart and each line has its time; the kernel's is as it came. All files are
//! bounded: the oldest part goes when a file is full.

mod collector;
mod entry;
mod journal;
mod reader;
mod rotating;

use std::path::{Path, PathBuf};

pub use collector::{Collector, Keep, Observer};
pub use entry::{Entry, Stream};
pub use journal::Journal;
pub use reader::Reader;
pub use rotating::Rotating;

/// The program's output.
pub fn output(folder: &Path) -> PathBuf {
    folder.join("output.jsonl")
}

/// The kernel's messages.
pub fn console(folder: &Path) -> PathBuf {
    folder.join("console.log")
}

/// What mvm says about the machine.
pub fn monitor(folder: &Path) -> PathBuf {
    folder.join("mvm.log")
}
