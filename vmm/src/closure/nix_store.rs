//! `nix-store -qR`: the store as its own tool sees it, be it through a daemon or another host.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{StorePath, list, registration};
use crate::app::quote::one_line;

/// The first `nix-store` in the folders of `search_path`.
pub fn find(search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .map(|folder| folder.join("nix-store"))
        .find(|program| {
            program
                .metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

/// Asks `program` for all that `roots` refer to.
pub fn requisites(program: &Path, roots: &BTreeSet<StorePath>) -> anyhow::Result<Vec<StorePath>> {
    let (name, told) = ask(program, "-qR", roots)?;
    list::parse(&name, &told)
}

/// Asks `program` what is known of `paths`, which are sorted.
pub fn registration(program: &Path, paths: &[StorePath]) -> anyhow::Result<String> {
    let (name, told) = ask(program, "--dump-db", paths)?;
    let cannot = || format!("cannot use what {name} prints");
    let told = std::str::from_utf8(&told).with_context(cannot)?;
    registration::select(told, paths).with_context(cannot)
}

/// What it was asked by, and its answer.
fn ask<'a>(
    program: &Path,
    question: &str,
    paths: impl IntoIterator<Item = &'a StorePath>,
) -> anyhow::Result<(String, Vec<u8>)> {
    let name = format!("{} {question}", program.display());
    let output = Command::new(program)
        .arg(question)
        .args(paths.into_iter().map(StorePath::as_str))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "{name} failed ({}): {}",
            output.status,
            one_line(last.unwrap_or("it did not say why").trim())
        );
    }
    Ok((name, output.stdout))
}
