//! Dependencies between the crates point one way (ARCHITECTURE.md).

use std::collections::BTreeSet;
use std::process::Command;

/// Every edge there may be. `tests` drives the program and depends on none of its crates.
const ALLOWED: [(&str, &str); 6] = [
    ("image", "devices"),
    ("mvm", "guest"),
    ("mvm", "image"),
    ("mvm", "switch"),
    ("mvm", "vmm"),
    ("vmm", "devices"),
];

#[test]
fn crates_depend_in_one_direction() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<_> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let edges: BTreeSet<_> = packages
        .iter()
        .flat_map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            dependencies.iter().map(|dependency| {
                (
                    package["name"].as_str().unwrap(),
                    dependency["name"].as_str().unwrap(),
                )
            })
        })
        // A crate's tests may need features of the crate itself.
        .filter(|(from, to)| from != to && ours.contains(to))
        .collect();
    assert_eq!(edges, BTreeSet::from(ALLOWED));
}
