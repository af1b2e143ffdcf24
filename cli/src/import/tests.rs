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
    convert(&folder(), &[(file.clone(), read(&file))]).unwrap()
}

/// What becomes of a file `a.yml`.
pub fn converted_text(text: &str) -> Imported {
    convert_text(text).unwrap()
}

fn convert_text(text: &str) -> Result<Imported> {
    convert(&folder(), &[("a.yml".into(), text.into())])
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

/// What becomes of files in a folder of their own, the first of which are put over each other.
fn converted_files(files: &[(&str, &str)], count: usize) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let inputs = files.iter().take(count);
    let inputs = inputs.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    convert(folder.path(), &inputs.collect::<Vec<_>>()).unwrap()
}

fn json_of(imported: &Imported) -> serde_json::Value {
    serde_json::from_str(&imported.text).unwrap()
}

#[test]
fn files_over_each_other_are_one() {
    let base = "services:\n  web:\n    image: a\n    command: [a, b]\n    ports: ['80:80', '81:81']\n    \
        volumes: ['/a:/x', '/b:/y']\n    environment: [A=1, B=1]\n    restart: always\n    profiles: [x]\n    \
        labels: {a: b}\n";
    let over = "services:\n  web:\n    command: c\n    volumes: ['/c:/x']\n    environment: {B: 2}\n    \
        ports:\n      - {target: 80, published: 80}\n      - '82:82'\n    restart: !reset null\n    \
        profiles: !override [y]\n    privileged: true\n";
    let imported = converted_files(&[("base.yml", base), ("over.yml", over)], 2);
    let web = &json_of(&imported)["services"]["web"];
    assert_eq!(web["app"]["args"], serde_json::json!(["c"]));
    assert_eq!(web["app"]["env"], serde_json::json!({ "A": "1", "B": "2" }));
    let ports = ["0.0.0.0:80:80", "0.0.0.0:81:81", "0.0.0.0:82:82"];
    assert_eq!(web["ports"], serde_json::json!(ports));
    let sources = [&web["shares"][0]["source"], &web["shares"][1]["source"]];
    assert_eq!(sources, ["/c", "/b"]);
    assert_eq!(
        (&web["restart"], &web["profiles"]),
        (&().into(), &serde_json::json!(["y"]))
    );
    let remarks = remarks_of(&imported);
    let of_over = "over.yml:11:17: services.web.privileged: is left out";
    assert!(
        remarks.contains("base.yml:3:12: services.web.image: is read"),
        "{remarks}"
    );
    assert!(remarks.contains(of_over), "{remarks}");
}

#[test]
fn what_is_included_has_its_paths_from_here_and_what_cannot_be_is_named() {
    let main = "include:\n  - db/compose.yml\n  - path: [mail.yml, more.yml]\n    env_file: mail.env\n  \
        - none.yml\n  - main.yml\n  - ${X}.yml\nservices:\n  web: {image: a}\n";
    let db = "name: db\nservices:\n  db:\n    image: d\n    env_file: ./db.env\n    volumes:\n      \
        - ./conf:/conf\n      - data:/data\n      - {type: bind, source: ../up, target: /up}\n  \
        web: {image: b}\nvolumes:\n  data:\nmodels: {a: b}\n";
    let imported = converted_files(
        &[
            ("main.yml", main),
            ("db/compose.yml", db),
            ("db/db.env", "A=1"),
            ("db/.env", "B=1"),
            ("db/conf/file", ""),
            ("up/file", ""),
            ("mail.yml", "services: {mail: {image: m}}"),
            ("more.yml", "services: {mail: {hostname: m}}"),
        ],
        1,
    );
    let file = json_of(&imported);
    let services = &file["services"];
    assert_eq!(services["web"]["image"], "./a.tar");
    assert_eq!(services["mail"]["hostname"], "m");
    let db = &services["db"];
    assert_eq!(db["app"]["env"]["A"], "1");
    let sources = [&db["shares"][0]["source"], &db["shares"][1]["source"]];
    assert_eq!(sources, ["./db/conf", "./db/../up"]);
    assert!(file["volumes"]["data"].is_object());
    let remarks = remarks_of(&imported);
    for expected in [
        "main.yml:2:5: include[0]: has variables of its own, which belong into the .env",
        "main.yml:3:5: include[1]: has variables of its own, which belong into the .env",
        "main.yml:5:5: include[2]: is not converted: cannot read none.yml: No such file",
        "main.yml:6:5: include[3]: is not converted: main.yml is included by itself",
        "main.yml:7:5: include[4]: is not converted: ${X}.yml has a variable",
        "db/compose.yml:10:8: services.web: is not converted: it is in main.yml:9:8, too",
        "db/compose.yml:13:9: models: is not converted: mvm has nothing like it",
    ] {
        assert!(
            remarks.lines().any(|line| line.starts_with(expected)),
            "{expected}\n{remarks}"
        );
    }
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
        let imported = converted_text(&text);
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
        let error = convert_text(text).err().expect(text);
        let error = format!("{error:#}");
        let expected = format!("cannot convert a.yml: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}
