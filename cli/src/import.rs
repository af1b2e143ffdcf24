//! Files of other programs as a `compose.json`.
//!
//! The one thing to know: what is not converted is named, with its line; nothing is dropped silently.
//! Each mapping is a [`Section`](section::Section), which knows the keys that nobody has taken.

pub mod dotenv;
mod extends;
mod known;
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

/// Converts a compose file of Docker's. `label`: what messages call it; `folder`: where it lies, which
/// the files that it names are looked for from.
///
/// # Errors
/// It is no YAML.
pub fn convert(label: &str, folder: &Path, text: &str) -> Result<Imported> {
    let mut tree = yaml::parse(text)?;
    let remarks = Remarks::new(label);
    extends::resolve(&mut tree, folder, &remarks);
    let section = Section::of(&tree, Place::root(), &remarks);
    let project = project::convert(section, folder);
    Ok(Imported {
        text: serde_json::to_string_pretty(&project)? + "\n",
        remarks: remarks.into_sorted(),
    })
}

#[cfg(test)]
mod tests;
