//! Store paths one a line: what `store.closure` names and what `nix-store -qR` prints.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{MAX_PATHS, StorePath};
use crate::app::quote::{one_line, quoted};
use crate::app::text;

/// Bytes of a list: [`MAX_PATHS`] of the longest paths.
const MAX_LIST_SIZE: u64 = 64 << 20;

/// What a folder of `closureInfo`'s has: the list, and what Nix knows of each path in it.
const LIST: &str = "store-paths";
const REGISTRATION: &str = "registration";

/// The list that `store.closure` names: a file, or what is in the folder.
pub fn of(named: &Path) -> PathBuf {
    if named.is_dir() {
        named.join(LIST)
    } else {
        named.into()
    }
}

/// What is beside a list that `closureInfo` has made, wherever a link to the list may be.
pub fn registration(list: &Path) -> PathBuf {
    let list = list.canonicalize().unwrap_or_else(|_| list.into());
    list.with_file_name(REGISTRATION)
}

/// Reads a list from a file.
pub fn read(file: &Path) -> anyhow::Result<Vec<StorePath>> {
    let name = one_line(&file.to_string_lossy());
    let bytes = text::read_file(file, MAX_LIST_SIZE)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("cannot read the closure from {name}"))?;
    parse(&name, &bytes)
}

/// Reads a list that messages call `name`. Empty lines do not count.
pub fn parse(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<StorePath>> {
    let mut paths = Vec::new();
    for (nth, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let path = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.parse().ok());
        let Some(path) = path else {
            let shown = quoted(&String::from_utf8_lossy(line));
            bail!(
                "{name}:{}: must be a store path such as /nix/store/<hash>-<name>, is {shown}",
                nth + 1
            );
        };
        if paths.len() == MAX_PATHS {
            bail!("{name}: must be at most {MAX_PATHS} store paths, is more");
        }
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "/nix/store/4fihnp5nbd76aqbyy4gdq02zm9crr4f7-bash-5.2.15";

    #[test]
    fn a_list_may_have_empty_lines_and_windows_line_ends() {
        let paths = parse("list", format!("\n{LINE}\r\n\n{LINE}").as_bytes()).expect("a list");
        assert_eq!(
            paths,
            [
                LINE.parse().expect("well-formed"),
                LINE.parse().expect("well-formed")
            ]
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse("list", format!("{LINE}\n{LINE}/bin\n").as_bytes())
            .expect_err("a folder in a store path");
        let expected = format!(
            "list:2: must be a store path such as /nix/store/<hash>-<name>, is \"{LINE}/bin"
        );
        assert!(error.to_string().starts_with(&expected[..100]), "{error}");
    }

    #[test]
    fn a_list_that_is_not_there_is_named() {
        let error = read(Path::new("/nonexistent/list")).expect_err("no such file");
        assert_eq!(
            format!("{error:#}"),
            "cannot read the closure from /nonexistent/list: cannot open: No such file or directory (os error 2)"
        );
    }
}
