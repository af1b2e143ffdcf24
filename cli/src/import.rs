//! Files of other programs as a `compose.json`.
//!
//! The one thing to know: what is not converted is named, with its line; nothing is dropped silently.
//! Each mapping is a [`Section`](section::Section), which knows the keys that nobody has taken.

pub mod dotenv;
mod extends;
mod files;
mod include;
mod known;
mod merge;
mod mounts;
mod names;
mod ordered;
mod program;
mod project;
mod resources;
mod section;
mod service;
mod tmpfs;
mod words;
mod yaml;

use std::path::Path;

use anyhow::Result;
use vmm::app::{Place, Problem};

use section::{Remarks, Section};

/// A file that was converted.
pub struct Imported {
    /// The `compose.json`, as text.
    pub text: String,
    /// What was not converted, or only almost, by lines.
    pub remarks: Vec<Problem>,
}

/// Converts compose files of Docker's, each put over those before it: what messages call them, and their
/// texts. `folder`: where the first one lies, which the files that they name are looked for from.
///
/// # Errors
/// One is no YAML.
pub fn convert(folder: &Path, files: &[(String, String)]) -> Result<Imported> {
    let remarks = Remarks::default();
    let tree = files::put_together(folder, files, &remarks)?;
    let section = Section::of(&tree, Place::root(), &remarks);
    let project = project::convert(section, folder);
    Ok(Imported {
        text: serde_json::to_string_pretty(&project)? + "\n",
        remarks: remarks.into_sorted(),
    })
}

#[cfg(test)]
mod tests;
