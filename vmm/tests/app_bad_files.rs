//! Each bad file beside its exact errors: `tests/bad-app-json/NNN-name.{json,expected}`.
//!
//! An `.expected` file is what `mvm check` prints in that folder. Files that are bad by their size
//! or kind are made in `app_hostile_files.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use vmm::app::{AppFile, Problems};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bad-app-json");

fn with_extension(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER)
        .expect("folder")
        .map(|entry| entry.expect("entry").path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn name(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .expect("name")
}

fn errors_of(file: &Path) -> Problems {
    let bytes = fs::read(file).expect("read");
    AppFile::parse(name(file), Path::new("/folder"), &bytes).expect_err("a bad file")
}

#[test]
fn each_bad_file_gives_exactly_its_errors() {
    let files = with_extension("json");
    assert!(files.len() >= 100, "only {} files", files.len());
    let expected = |file: &PathBuf| fs::read_to_string(file.with_extension("expected"));
    let differences: Vec<String> = files
        .iter()
        .map(|file| {
            (
                format!("{}\n", errors_of(file)),
                expected(file).unwrap_or_default(),
            )
        })
        .filter(|(found, expected)| found != expected)
        .map(|(found, expected)| format!("expected: {expected}found:    {found}"))
        .collect();
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

#[test]
fn no_errors_are_expected_of_a_file_that_is_not_there() {
    let expected = with_extension("expected");
    let expected: Vec<PathBuf> = expected
        .iter()
        .map(|file| file.with_extension("json"))
        .collect();
    assert_eq!(expected, with_extension("json"));
}

#[test]
fn each_error_is_one_line_with_file_line_and_column() {
    for file in with_extension("json") {
        for problem in &errors_of(&file) {
            let shown = problem.to_string();
            let (line, column) = (problem.line.expect("line"), problem.column.expect("column"));
            let position = format!("{}:{line}:{column}: ", name(&file));
            assert!(
                shown.starts_with(&position) && !shown.contains('\n'),
                "{shown}"
            );
        }
    }
}
