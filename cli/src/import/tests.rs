//! Whole files: `tests/import/NAME.yml` beside what it comes to (`.json`) and what is said of it
//! (`.remarks`).

use std::fs;
use std::path::{Path, PathBuf};

use vmm::compose::{ComposeFile, Variables};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/import")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

fn converted(name: &str) -> Imported {
    let file = format!("{name}.yml");
    convert(&file, &folder(), &read(&file)).unwrap()
}

/// What becomes of a file `a.yml`.
pub fn converted_text(text: &str) -> Imported {
    convert("a.yml", &folder(), text).unwrap()
}

/// What is said of a file, each in a line.
pub fn remarks_of(imported: &Imported) -> String {
    let lines = imported.remarks.iter().map(|remark| format!("{remark}\n"));
    lines.collect()
}

#[test]
fn a_usual_file_comes_to_the_same_project() {
    let shop = converted("shop");
    assert_eq!(shop.text, read("shop.json"));
    assert_eq!(remarks_of(&shop), read("shop.remarks"));
}

#[test]
fn each_thing_that_is_not_converted_is_named_with_its_line() {
    let odd = converted("odd");
    assert_eq!(odd.text, read("odd.json"));
    assert_eq!(remarks_of(&odd), read("odd.remarks"));
}

#[test]
fn what_a_service_takes_over_and_shares_with_others_is_its_own() {
    let town = converted("town");
    assert_eq!(town.text, read("town.json"));
    assert_eq!(remarks_of(&town), read("town.remarks"));
}

#[test]
fn what_comes_out_is_a_compose_json() {
    let variables = Variables::from([("HOME".into(), "/root".into())]);
    for name in ["shop", "odd", "town"] {
        let text = converted(name).text;
        let path = folder().join("compose.json");
        ComposeFile::parse(name, &path, text.as_bytes(), None, &variables).unwrap();
    }
}

#[test]
fn each_key_of_a_service_is_converted_or_named() {
    // Those of the Compose Specification that this test does not know must be named, too.
    for key in [
        "annotations",
        "blkio_config",
        "devices",
        "no_such_key",
        "gpus",
    ] {
        let text = format!("services:\n  a:\n    image: a\n    {key}: [x]\n");
        let imported = convert("a.yml", &folder(), &text).unwrap();
        let place = "a.yml:4:";
        let named = remarks_of(&imported);
        let line = named.lines().find(|line| line.starts_with(place));
        let line = line.unwrap_or_else(|| panic!("{key}: {named}"));
        assert!(
            line.contains(&format!("services.a.{key}: is not converted")),
            "{line}"
        );
    }
}

#[test]
fn what_is_no_yaml_is_an_error_with_its_line() {
    for (text, expected) in [
        ("a: [1,\n", "2:1: "),
        ("a:\n\tb: 1\n", "2:"),
        ("a: 1\na: 2\n", "2: duplicate key \"a\""),
    ] {
        let error = convert("a.yml", &folder(), text).err().expect(text);
        let error = format!("{error:#}");
        assert!(error.starts_with(expected), "{error}");
    }
}
