//! Files of one project as one tree: each over those before it, with what they extend and include.

use std::path::Path;

use anyhow::{Context, Result};

use super::merge::merge;
use super::section::Remarks;
use super::yaml::{self, Yaml};
use super::{extends, include};

/// The tree of files that begin in `folder`: what messages call them, and their texts.
///
/// # Errors
/// One is no YAML, or there is none.
pub fn put_together(folder: &Path, files: &[(String, String)], remarks: &Remarks) -> Result<Yaml> {
    let mut whole: Option<Yaml> = None;
    for (label, text) in files {
        let convert = || format!("cannot convert {label}");
        let mut tree = yaml::parse(label, text).with_context(convert)?;
        extends::resolve(&mut tree, folder, remarks);
        let around = [include::real(Path::new(label))];
        include::resolve(&mut tree, folder, &around, remarks);
        match &mut whole {
            None => whole = Some(tree),
            Some(under) => merge("", under, tree),
        }
    }
    whole.context("no file is named")
}
