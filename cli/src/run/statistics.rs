//! What a guest asked of its shares, as a file: `{"store": {"LOOKUP": 12, ...}, ...}`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use vmm::machine::Counters;

/// Writes the counts of each share, by its tag and FUSE's names of the requests.
pub fn write(path: &Path, shares: &[(String, Arc<Counters>)]) -> anyhow::Result<()> {
    let counts: BTreeMap<_, BTreeMap<_, _>> = shares
        .iter()
        .map(|(tag, counters)| (tag, counters.snapshot().into_iter().collect()))
        .collect();
    let text = serde_json::to_string_pretty(&counts).context("cannot write JSON")?;
    std::fs::write(path, text + "\n")
        .with_context(|| format!("cannot write statistics to {}", path.display()))
}
