//! `docs/conventions.md` names tests that exist, for each convention that is met, and `docs/coming-from.md` for each
//! command of the tools that mvm stands in for.

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

/// All of the repository's Rust.
fn code(root: &Path) -> String {
    let mut files = Vec::new();
    for folder in ["cli", "devices", "guest", "image", "tests", "vmm"] {
        sources(&root.join(folder), &mut files);
    }
    let texts = files
        .iter()
        .map(|file| fs::read_to_string(file).expect("source"));
    texts.collect()
}

#[test]
fn each_row_of_another_tools_table_is_shown_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let code = code(&root);
    let text = fs::read_to_string(root.join("docs/coming-from.md")).expect("the tables");
    let is_heading = |row: &str| row.contains("| shown by |") || row.starts_with("|---");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let mut tools = 0;
    for row in rows {
        if is_heading(row) {
            tools += usize::from(!row.starts_with("|---"));
            continue;
        }
        let (_, tests) = row
            .trim_end_matches([' ', '|'])
            .rsplit_once('|')
            .expect("cells");
        for test in tests.split(", ") {
            let name = test.trim().trim_matches('`');
            assert!(
                code.contains(&format!("fn {name}()")),
                "no test {name}: {row}"
            );
        }
    }
    assert_eq!(tools, 6);
}

#[test]
fn each_is_shown_by_a_test_or_is_not_yet_met() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let code = code(&root);
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
