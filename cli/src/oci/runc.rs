//! runc, which makes the containers.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

/// The program, and the package of most distributions that has it.
const RUNC: &str = "runc";

/// Where it is looked for after PATH, which engines cut short.
const FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// runc with the flags before its command.
pub struct Runc {
    program: PathBuf,
    flags: Vec<OsString>,
}

/// What runc knows of a container.
#[derive(Debug, Deserialize)]
pub struct State {
    /// Its first process; 0 once that has ended.
    pub pid: u32,
    /// The bundle that runc got.
    pub bundle: PathBuf,
}

impl Runc {
    /// Looks for it.
    ///
    /// # Errors
    /// This host has none.
    pub fn find(flags: Vec<OsString>) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let program = find_in(&path, &FOLDERS)?;
        Ok(Self { program, flags })
    }

    fn command(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(words);
        command
    }

    /// Becomes it. Returns only if it cannot.
    pub fn exec(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> anyhow::Error {
        let error = self.command(words).exec();
        anyhow!(error).context(format!("cannot execute {}", self.program.display()))
    }

    /// What it knows of a container.
    ///
    /// # Errors
    /// Nothing; says why.
    pub fn state(&self, id: &str) -> Result<State> {
        let answer = self.answer(["state", id])?;
        serde_json::from_slice(&answer).with_context(|| format!("what runc knows of {id}"))
    }

    /// What it prints.
    ///
    /// # Errors
    /// It failed; its last line says why.
    pub fn answer(&self, words: [&str; 2]) -> Result<Vec<u8>> {
        let output = self.command(words).stdin(Stdio::null()).output();
        let output =
            output.with_context(|| format!("cannot execute {}", self.program.display()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        match said.lines().last() {
            Some(last) => bail!("runc: {last}"),
            None => bail!("runc {}: {}", words.join(" "), output.status),
        }
    }
}

fn find_in(path: &OsStr, folders: &[&str]) -> Result<PathBuf> {
    let all = env::split_paths(path).chain(folders.iter().map(PathBuf::from));
    let mut found = all.map(|folder| folder.join(RUNC));
    let is_there = |path: &PathBuf| Path::new(path).is_file();
    found.find(is_there).with_context(|| {
        format!("cannot find {RUNC}, which makes the container around a machine: `apt-get install {RUNC}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_runc_is_told_with_its_package() {
        let error = find_in("/no/such/folder".as_ref(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot find runc, which makes the container around a machine: `apt-get install runc`"
        );
    }

    #[test]
    fn it_is_found_where_the_path_does_not_lead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runc");
        std::fs::write(&path, "").unwrap();
        let found = find_in("".as_ref(), &[folder.path().to_str().unwrap()]);
        assert_eq!(found.unwrap(), path);
    }
}
