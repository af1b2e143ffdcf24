//! A program's environment, as app.json and the command line say it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use guest::protocol::ByteString;

/// Variables by name; null takes one away that would be set otherwise.
pub type Variables = BTreeMap<String, Option<String>>;

/// Sets what `--env` says: `NAME=VALUE`, or `NAME` with the value that it has here.
pub fn set(variables: &mut Variables, words: &[String]) -> Result<()> {
    for word in words {
        let (name, value) = entry(word).context("--env")?;
        variables.insert(name, value);
    }
    Ok(())
}

/// Sets what the file of `--env-file` says: what `--env` takes, one in a line. Lines that are empty
/// or begin with "#" say nothing, and no quotes are taken away.
pub fn set_from(variables: &mut Variables, file: &Path) -> Result<()> {
    read(variables, file).context("--env-file")
}

/// Sets what such a file says.
///
/// # Errors
/// It cannot be read, or a line says no variable.
pub fn read(variables: &mut Variables, file: &Path) -> Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    for (nth, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let here = || format!("{shown}:{}", nth + 1);
        let (name, value) = entry(line).with_context(here)?;
        let is_word = !name.contains(char::is_whitespace);
        ensure!(is_word, "{}: {name:?} is no name of a variable", here());
        variables.insert(name, value);
    }
    Ok(())
}

/// A variable by its name, with the value that it has here where none is said.
fn entry(word: &str) -> Result<(String, Option<String>)> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, std::env::var(word).ok()),
    };
    ensure!(!name.is_empty(), "must be NAME=VALUE or NAME, is {word:?}");
    Ok((name.into(), value))
}

/// What the guest is told.
pub fn lines(variables: &Variables) -> Vec<ByteString> {
    let line = |(name, value): (&String, &Option<String>)| {
        let value = value.as_ref()?;
        Some(format!("{name}={value}").as_str().into())
    };
    variables.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_has_its_value_from_here() {
        let mut variables = Variables::from([("A".into(), Some("1".into())), ("B".into(), None)]);
        let words = ["A=2=3", "CARGO_PKG_NAME", "MVM_NO_SUCH_VARIABLE"].map(String::from);
        set(&mut variables, &words).unwrap();
        let lines = lines(&variables)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(lines, ["A=2=3", "CARGO_PKG_NAME=mvm"]);
        let error = set(&mut variables, &["=1".into()]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "--env: must be NAME=VALUE or NAME, is \"=1\""
        );
    }

    #[test]
    fn a_file_has_one_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        let set_from = |text: &str| {
            fs::write(&file, text).unwrap();
            let mut variables = Variables::new();
            set_from(&mut variables, &file)
                .map(|()| variables)
                .map_err(|error| format!("{error:#}"))
        };
        let text = "# a comment\n\n  A=\"1\" # 2\r\nB=\nCARGO_PKG_NAME\nA=b c";
        let expected = [("A", "b c"), ("B", ""), ("CARGO_PKG_NAME", "mvm")];
        let expected = expected.map(|(name, value)| (name.into(), Some(value.into())));
        assert_eq!(set_from(text), Ok(expected.into()));
        for (text, error) in [
            ("A=1\n=2", "2: must be NAME=VALUE or NAME, is \"=2\""),
            ("export A=1", "1: \"export A\" is no name of a variable"),
        ] {
            let expected = format!("--env-file: {}:{error}", file.display());
            assert_eq!(set_from(text), Err(expected));
        }
    }
}
