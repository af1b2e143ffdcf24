//! What is told of machines: their state, and what happened to them.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::machines::Machines;

/// For something to become so, on a host that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

impl Machines {
    /// What `mvm inspect` tells of one.
    ///
    /// # Errors
    /// There is no such machine, or it cannot be asked.
    pub fn inspect(&self, name: &str) -> anyhow::Result<Value> {
        let output = self.mvm(["inspect", name])?;
        ensure!(output.status == 0, "{output}");
        let mut all: Value = serde_json::from_str(&output.stdout())?;
        Ok(all[0].take())
    }

    /// The same, once it is so.
    ///
    /// # Errors
    /// As [`Self::inspect`], or it does not become so.
    pub fn inspect_until(
        &self,
        name: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        until(|| self.inspect(name), is_so)
    }

    /// What is kept of one's standard output, once it is so.
    ///
    /// # Errors
    /// It cannot be asked for, or does not become so.
    pub fn logs_until(&self, name: &str, is_so: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let said = || Ok(self.mvm(["logs", name])?.stdout());
        until(said, |said| is_so(said))
    }

    /// The kinds of one's events, the oldest first.
    ///
    /// # Errors
    /// They cannot be asked for.
    pub fn events(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let name = format!("name={name}");
        let lines = self.mvm(["events", "--json", "--filter", &name])?;
        let kind = |line: &str| {
            let event: Value = serde_json::from_str(line)?;
            Ok(event["event"].as_str().unwrap_or_default().to_owned())
        };
        lines.stdout().lines().map(kind).collect()
    }
}

/// What a look finds, once it is so.
fn until<T: Display>(
    look: impl Fn() -> anyhow::Result<T>,
    is_so: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look()?;
        if is_so(&found) {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "it never was so: {found:#}");
    }
}
