//! `docs/conventions.md` names tests that exist, for each convention that is met.

use std::fs;
use std::path::{Path, PathBuf};

/// Conventions, numbered from 1.
const CONVENTIONS: usize = 31;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of this repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_is_shown_by_a_test_or_is_not_yet_met() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["cli", "devices", "guest", "image", "tests", "vmm"] {
        sources(&root.join(folder), &mut files);
    }
    let code: String = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("source"))
        .collect();
    let text = fs::read_to_string(root.join("docs/conventions.md")).expect("the table");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut number = 0;
    for row in rows {
        number += 1;
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [nth, _, does, tests] = cells[..] else {
            panic!("not four cells: {row}");
        };
        assert_eq!(nth, number.to_string());
        assert!(!tests.is_empty() || does == "not yet", "{row}");
        for test in tests.split(", ").filter(|test| !test.is_empty()) {
            let name = test.trim_matches('`');
            assert!(
                code.contains(&format!("fn {name}()")),
                "{nth}: no test {name}"
            );
        }
    }
    assert_eq!(number, CONVENTIONS);
}
