//! What a Nix knows of store paths, as a file: what `closureInfo` calls `registration`, and
//! `nix-store --dump-db` prints.
//!
//! For each path a line with itself, its hash, its size, what it was derived by and the number of its
//! references, and one with each of these. Of the lines that only Nix understands nothing is looked
//! at: the machine's own Nix does that.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::StorePath;
use crate::app::quote::one_line;
use crate::app::text;

/// Bytes of one: a system's thousands of paths have a hundredth.
const MAX_SIZE: u64 = 256 << 20;

/// What a file says of `paths`, which are sorted, and of no other.
///
/// # Errors
/// It cannot be read, is none, or does not say all.
pub fn read(file: &Path, paths: &[StorePath]) -> anyhow::Result<String> {
    let name = one_line(&file.to_string_lossy());
    let bytes = text::read_file(file, MAX_SIZE)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("cannot read {name}"))?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("cannot use {name}"))?;
    select(text, paths).with_context(|| format!("cannot use {name}"))
}

/// What a text says of `paths`, which are sorted, and of no other.
///
/// # Errors
/// It does not say all, or a path refers to one that is not among them.
pub fn select(text: &str, paths: &[StorePath]) -> anyhow::Result<String> {
    let is_one = |path: &str| paths.binary_search_by(|one| one.as_str().cmp(path)).is_ok();
    let mut unknown: BTreeSet<&str> = paths.iter().map(StorePath::as_str).collect();
    let mut selected = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((nth, path)) = lines.next() {
        let facts: Vec<&str> = lines.by_ref().take(4).map(|(_, line)| line).collect();
        let count = facts.get(3).and_then(|count| count.parse().ok());
        let Some(count) = count else {
            bail!("line {} does not begin what Nix knows of a path", nth + 1);
        };
        let references: Vec<&str> = lines.by_ref().take(count).map(|(_, line)| line).collect();
        ensure!(references.len() == count, "its last line is missing");
        if !unknown.remove(path) {
            continue;
        }
        if let Some(other) = references.iter().find(|other| !is_one(other)) {
            bail!("{path} refers to {other}, which is not in the machine's closure");
        }
        for line in [path].iter().chain(&facts).chain(&references) {
            selected.push_str(line);
            selected.push('\n');
        }
    }
    let count = unknown.len();
    ensure!(
        count == 0,
        "it does not know {count} of {} store paths",
        paths.len()
    );
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::path;
    use super::*;

    /// What is known of a path, by its name and those of its references.
    fn known(name: &str, references: &[&str]) -> String {
        let head = format!("{}\nsha256:0\n120\n\n{}", path(name), references.len());
        let references = references.iter().map(|one| path(one).to_string());
        let lines: Vec<_> = [head].into_iter().chain(references).collect();
        lines.join("\n") + "\n"
    }

    #[test]
    fn of_all_that_is_known_the_closure_is_told() {
        let (a, b, c) = (
            known("a", &["b"]),
            known("b", &["b"]),
            known("c", &["a", "b"]),
        );
        let text = format!("{c}{b}{a}");
        let told = select(&text, &[path("a"), path("b")]).expect("known");
        assert_eq!(told, format!("{b}{a}"));
    }

    #[test]
    fn what_is_unknown_or_missing_is_told() {
        let text = known("a", &["b"]) + &known("b", &[]);
        let refusal = |text: &str, names: &[&str]| {
            let paths: Vec<_> = names.iter().map(|name| path(name)).collect();
            select(text, &paths).expect_err("refused").to_string()
        };
        assert_eq!(
            refusal(&text, &["a", "b", "z"]),
            "it does not know 1 of 3 store paths"
        );
        let words = format!(
            "{} refers to {}, which is not in the machine's closure",
            path("a"),
            path("b")
        );
        assert_eq!(refusal(&text, &["a"]), words);
        let cut = format!("{}\nsha256:0\n120\n\n2\n{}\n", path("a"), path("a"));
        assert_eq!(refusal(&cut, &["a"]), "its last line is missing");
        let list = format!("{}\n{}\n", path("a"), path("b"));
        let words = "line 1 does not begin what Nix knows of a path";
        assert_eq!(refusal(&list, &["a"]), words);
    }
}
