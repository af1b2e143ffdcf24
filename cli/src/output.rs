//! What commands print for other programs: all of it, or an error. And what they tell the user.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use anyhow::Context;

/// Prints `bytes` to standard output. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// Standard output takes no more for another reason, a full disk for instance.
pub fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// One line for the user on standard error; lost where nobody takes it.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "mvm: {line}");
}

/// Words of a guest, without what would act on a terminal.
pub fn plain(words: &str) -> String {
    words.chars().filter(|c| !c.is_control()).collect()
}

/// Prints `value` as JSON for people and programs.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value).context("cannot write JSON")?;
    text.push(b'\n');
    print(&text)
}
