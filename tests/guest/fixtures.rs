//! Whole programs of the fixtures and the examples: servers, databases, interpreters.

use std::fs;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machine, fixtures_folder};

/// Runs `NAME.json` of the fixtures. Their `expected/NAME` is what they print on a host.
#[track_caller]
fn assert_prints_what_is_expected(name: &str) -> Result<()> {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/expected")
        .join(name);
    let expected = fs::read_to_string(expected)?;
    let output = Machine::of_file(fixtures_folder().join(format!("{name}.json"))).run()?;
    assert_eq!((output.status, output.stdout()), (0, expected), "{output}");
    Ok(())
}

#[test]
fn hello() -> Result<()> {
    assert_prints_what_is_expected("hello")
}

#[test]
fn python3() -> Result<()> {
    assert_prints_what_is_expected("python3")
}

#[test]
fn redis() -> Result<()> {
    assert_prints_what_is_expected("redis")
}

#[test]
fn nginx() -> Result<()> {
    assert_prints_what_is_expected("nginx")
}

#[test]
fn examples() -> Result<()> {
    let example =
        |name| Machine::of_file(fixtures_folder().join(format!("../examples/{name}.json"))).run();
    let hello = example("hello")?.success();
    let arguments = example("shell-args")?;
    let vcpus = example("vcpus")?.success();
    let no_store = example("no-store")?.success();
    let web = example("python-web")?.success();
    assert!(hello.contains("in a machine of my own."), "{hello}");
    assert!(
        arguments
            .stdout()
            .starts_with("4 arguments:\n  <plain>\n  <two words>\n"),
        "{arguments}"
    );
    assert_eq!(
        (arguments.status, &*arguments.stderr()),
        (0, "this line is on standard error\n")
    );
    assert!(vcpus.starts_with("4 processors\n"), "{vcpus}");
    assert_eq!(vcpus.matches("\njob ").count(), 4, "{vcpus}");
    assert!(no_store.ends_with("No store here.\n"), "{no_store}");
    assert!(
        web.contains("200 /index.html: ") && web.contains("bytes of text/html"),
        "{web}"
    );
    Ok(())
}
