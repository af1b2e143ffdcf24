//! What is told of machines: their state, and what happened to them.

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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let facts = self.inspect(name)?;
            if is_so(&facts) {
                return Ok(facts);
            }
            ensure!(Instant::now() < deadline, "it never was so: {facts:#}");
        }
    }

    /// Waits until what is kept of one's standard output is so.
    ///
    /// # Errors
    /// It cannot be asked for, or does not become so.
    pub fn logs_until(&self, name: &str, is_so: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let logs = self.mvm(["logs", name])?;
            if is_so(&logs.stdout()) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it never said that: {logs}");
        }
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
