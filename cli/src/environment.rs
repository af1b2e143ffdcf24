//! A program's environment, as app.json and the command line say it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use guest::protocol::ByteString;

/// Variables by name; null takes one away that would be set otherwise.
pub type Variables = BTreeMap<String, Option<String>>;

/// Sets what `--env` says: `NAME=VALUE`, or `NAME` with the value that it has here.
pub fn set(variables: &mut Variables, words: &[String]) -> Result<()> {
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), std::env::var(word).ok()),
        };
        if name.is_empty() {
            bail!("--env: must be NAME=VALUE or NAME, is {word:?}");
        }
        variables.insert(name.into(), value);
    }
    Ok(())
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
        assert!(set(&mut variables, &["=1".into()]).is_err());
    }
}
