//! Store paths of `tests/fixtures/store`, by their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::repository;

/// Where `make fixtures` leaves its links: `$MVM_FIXTURES`, else `target/fixtures`.
pub fn fixtures_folder() -> PathBuf {
    let made = || repository().join("target/fixtures");
    std::env::var_os("MVM_FIXTURES").map_or_else(made, PathBuf::from)
}

/// The store path of a fixture, such as `bash` or `tools`.
///
/// # Panics
/// There is none of that name: `make fixtures` has not run.
pub fn fixture(name: &str) -> String {
    let link = fixtures_folder().join(name);
    let target = fs::read_link(&link);
    let target = target.unwrap_or_else(|error| {
        panic!(
            "cannot read {}: {error}; `make fixtures` makes it",
            link.display()
        )
    });
    target.to_string_lossy().into_owned()
}

/// The closure of a store path as Nix itself tells it, sorted.
///
/// # Errors
/// Nix does not know the path.
pub fn closure(path: &str) -> anyhow::Result<Vec<String>> {
    let text = nix_store(&["--query", "--requisites", path])?;
    let mut paths: Vec<_> = text.lines().map(str::to_owned).collect();
    ensure!(
        paths.iter().all(|path| Path::new(path).is_absolute()),
        "not paths: {paths:?}"
    );
    paths.sort();
    Ok(paths)
}

/// What Nix knows of store paths, as it reads it with `nix-store --load-db`.
///
/// # Errors
/// Nix does not know one of them.
pub fn registration(paths: &[String]) -> anyhow::Result<String> {
    let paths = paths.iter().map(String::as_str);
    nix_store(&["--dump-db"].into_iter().chain(paths).collect::<Vec<_>>())
}

fn nix_store(arguments: &[&str]) -> anyhow::Result<String> {
    let program = fixtures_folder().join("bin/nix-store");
    let output = Command::new(&program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "nix-store does not know {arguments:?}: {errors}"
    );
    String::from_utf8(output.stdout).context("cannot read what nix-store says")
}
