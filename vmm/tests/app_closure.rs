//! The sources of a closure against a real store: that of `tests/fixtures/store`.
//!
//! Nix itself is the judge here: what its tool answers and what it wrote into a list at build time
//! must be what the database gives.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use vmm::app::{App, AppFile};
use vmm::closure::{Closure, Nix, Source, StorePath, roots};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fixtures");

fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

/// A file of the fixtures, through the link that leads to it in the store.
fn app_file(name: &str) -> AppFile {
    AppFile::load(&fixture(name)).expect("tests/fixtures/store has made a good file")
}

fn only_database() -> Nix {
    Nix {
        search_path: OsString::new(),
        ..Nix::of_this_host()
    }
}

fn only_tool() -> Nix {
    Nix {
        database: PathBuf::from("/proc/none"),
        search_path: fixture("bin").into(),
    }
}

#[test]
fn a_file_in_the_store_has_itself_as_its_root() {
    let file = app_file("hello.json");
    let itself = StorePath::containing(&fs::canonicalize(fixture("hello.json")).expect("link"));
    assert_eq!(roots(&file), BTreeSet::from_iter(itself));
}

#[test]
fn a_copy_outside_the_store_has_the_same_closure_but_for_the_file() {
    let inside = app_file("tools.json");
    let bytes = fs::read(fixture("tools.json")).expect("read");
    let outside = AppFile::parse("app.json", Path::new("/"), &bytes).expect("good file");
    let closure_of = |file: &AppFile| {
        let closure = Closure::resolve(&file.app, &roots(file), &only_database()).expect("closure");
        closure.paths().iter().cloned().collect::<BTreeSet<_>>()
    };
    let only_inside = &closure_of(&inside) - &closure_of(&outside);
    assert_eq!(only_inside, roots(&inside));
    assert!(closure_of(&outside).is_subset(&closure_of(&inside)));
}

#[test]
fn the_database_and_the_tool_agree() {
    for name in ["hello.json", "python3.json", "tools.json"] {
        let file = app_file(name);
        let by_database =
            Closure::resolve(&file.app, &roots(&file), &only_database()).expect("database");
        let by_tool = Closure::resolve(&file.app, &roots(&file), &only_tool()).expect("nix-store");
        assert!(
            matches!(by_database.source(), Source::Database(_)),
            "{}",
            by_database.source()
        );
        assert!(
            matches!(by_tool.source(), Source::NixStore(_)),
            "{}",
            by_tool.source()
        );
        assert_eq!(by_database.paths(), by_tool.paths());
        assert!(
            by_tool.paths().len() > 2,
            "{name} has but {:?}",
            by_tool.paths()
        );
    }
}

#[test]
fn the_database_and_the_list_of_a_build_agree() {
    let mut app = App::new("a", vec!["/bin/sh".into()]);
    app.store.closure = Some(fixture("closure/store-paths"));
    let listed = Closure::resolve(&app, &BTreeSet::new(), &only_database()).expect("list");
    app.store.closure = None;
    let roots: BTreeSet<StorePath> = listed.paths().iter().cloned().collect();
    let asked = Closure::resolve(&app, &roots, &only_database()).expect("database");
    assert!(
        matches!(listed.source(), Source::List(_)),
        "{}",
        listed.source()
    );
    assert_eq!(asked.paths(), listed.paths());
}
