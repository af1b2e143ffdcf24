//! What a guest asked of its shares, as a file: `{"store": {"requests": {"LOOKUP": 12, ...}, ...}}`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use vmm::machine::{Confinement, Counters, Share};

use crate::control::statistics;

/// Writes the statistics of each share, by its tag.
pub fn write(path: &Path, shares: &[Share]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&of_all(shares)).context("cannot write JSON")?;
    std::fs::write(path, text + "\n")
        .with_context(|| format!("cannot write statistics to {}", path.display()))
}

/// The statistics of each share, by its tag.
pub fn of_all(shares: &[Share]) -> BTreeMap<String, statistics::Share> {
    let of_one = |share: &Share| {
        let confinement = share.wall.confinement();
        (share.tag.clone(), of(&share.counters, confinement))
    };
    shares.iter().map(of_one).collect()
}

fn of(counters: &Counters, confinement: Option<Confinement>) -> statistics::Share {
    let requests = counters.snapshot().into_iter();
    statistics::Share {
        requests: requests.map(|(name, count)| (name.into(), count)).collect(),
        replied_bytes: counters.replied_bytes(),
        nodes_refused: counters.nodes_refused(),
        handles_refused: counters.handles_refused(),
        mappings: counters.mappings(),
        mappings_refused: counters.mappings_refused(),
        landlock: confinement.map(|confinement| match confinement {
            Confinement::Landlock { abi } => abi,
            Confinement::None => 0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn confinement_and_refusals_are_among_the_statistics() {
        let landlock = |confinement| {
            let statistics = of(&Counters::default(), confinement);
            serde_json::to_value(statistics).unwrap()
        };
        assert_eq!(
            landlock(Some(Confinement::Landlock { abi: 6 })),
            json!({
                "requests": {}, "repliedBytes": 0, "nodesRefused": 0, "handlesRefused": 0,
                "mappings": 0, "mappingsRefused": 0, "landlock": 6
            })
        );
        assert_eq!(landlock(Some(Confinement::None))["landlock"], json!(0));
        assert_eq!(landlock(None)["landlock"], json!(null));
    }
}
