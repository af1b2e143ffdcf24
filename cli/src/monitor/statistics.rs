//! What a guest asked of its shares, as a file: `{"store": {"requests": {"LOOKUP": 12, ...}, ...}}`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use vmm::machine::{Confinement, Counters, Share};

/// One share.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    /// By FUSE's names of the requests.
    requests: BTreeMap<&'static str, u64>,
    /// Names that were not told since the guest held too many.
    nodes_refused: u64,
    /// Files that were not opened since the guest held too many.
    handles_refused: u64,
    /// Version of Landlock that confines the file server; 0 where the kernel has none, null
    /// where the guest did not use the share.
    landlock: Option<i32>,
}

impl Statistics {
    fn new(counters: &Counters, confinement: Option<Confinement>) -> Self {
        Self {
            requests: counters.snapshot(),
            nodes_refused: counters.nodes_refused(),
            handles_refused: counters.handles_refused(),
            landlock: confinement.map(|confinement| match confinement {
                Confinement::Landlock { abi } => abi,
                Confinement::None => 0,
            }),
        }
    }
}

/// Writes the statistics of each share, by its tag.
pub fn write(path: &Path, shares: &[Share]) -> anyhow::Result<()> {
    let statistics: BTreeMap<_, _> = shares
        .iter()
        .map(|share| {
            let statistics = Statistics::new(&share.counters, share.wall.confinement());
            (&share.tag, statistics)
        })
        .collect();
    let text = serde_json::to_string_pretty(&statistics).context("cannot write JSON")?;
    std::fs::write(path, text + "\n")
        .with_context(|| format!("cannot write statistics to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn confinement_and_refusals_are_among_the_statistics() {
        let landlock = |confinement| {
            let statistics = Statistics::new(&Counters::default(), confinement);
            serde_json::to_value(statistics).unwrap()
        };
        assert_eq!(
            landlock(Some(Confinement::Landlock { abi: 6 })),
            json!({"requests": {}, "nodesRefused": 0, "handlesRefused": 0, "landlock": 6})
        );
        assert_eq!(landlock(Some(Confinement::None))["landlock"], json!(0));
        assert_eq!(landlock(None)["landlock"], json!(null));
    }
}
