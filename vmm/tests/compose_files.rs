//! Files of projects: what is read from good ones, and the exact errors of bad ones, which are in
//! `tests/bad-compose-json/NNN-name.{json,expected}`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vmm::app::{InterfaceKind, Problems};
use vmm::compose::{ComposeFile, Project, Variables};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bad-compose-json");

fn bad_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect("folder");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|found| found == "json"))
        .collect();
    files.sort();
    files
}

fn parse(name: &str, bytes: &[u8]) -> Result<ComposeFile, Problems> {
    let variables = Variables::from([("GREETING".into(), "hello".into())]);
    ComposeFile::parse(
        name,
        Path::new("/shop/compose.json"),
        bytes,
        None,
        &variables,
    )
}

fn read(file: &Value) -> Project {
    let bytes = serde_json::to_vec(file).expect("JSON");
    parse("compose.json", &bytes).expect("a good file").project
}

#[test]
fn each_bad_file_gives_exactly_its_errors() {
    let files = bad_files();
    assert!(files.len() >= 30, "only {} files", files.len());
    let mut differences = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let error = parse(&name, &fs::read(&file).expect("read")).expect_err(&name);
        let found = format!("{error}\n");
        let expected = fs::read_to_string(file.with_extension("expected")).expect("its errors");
        if found != expected {
            differences.push(format!("expected: {expected}found:    {found}"));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// A shop with all that is a project's.
fn shop() -> Value {
    json!({
        "defaults": { "memory": "128M", "app": { "env": { "TZ": "UTC" } }, "restart": "on-failure" },
        "services": {
            "db": {
                "app": { "entrypoint": "/bin/db" },
                "volumes": [{ "name": "data", "mountPoint": "/data" }],
                "healthcheck": { "tcp": { "port": 6379 } },
                "networks": ["back"],
            },
            "init": {
                "app": { "entrypoint": "/bin/init" },
                "restart": null,
                "networks": [],
                "shares": [{ "source": "./conf", "mountPoint": "/conf" }],
            },
            "web": {
                "app": { "entrypoint": "/bin/web", "env": { "GREETING": "${GREETING}, $USER" } },
                "memory": "256M",
                "dependsOn": { "db": "healthy", "init": { "condition": "completed" } },
                "networks": { "default": { "aliases": ["www"] }, "back": {} },
                "ports": [":80"],
                "scale": 3,
            },
            "x": { "app": { "entrypoint": "/bin/x" }, "profiles": ["debug"], "dependsOn": ["web"] },
        },
        "networks": { "back": { "internal": true } },
        "volumes": { "data": { "size": "64M" }, "other": { "external": true } },
        "x-mine": [1, 2],
    })
}

#[test]
fn a_machine_is_the_service_with_the_projects_defaults_and_names() {
    let project = read(&shop());
    assert_eq!(project.name, "shop");
    let machine = |name: &str, number| {
        serde_json::to_value(project.machine(name, &project.services[name], number)).expect("JSON")
    };
    let db = machine("db", 1);
    assert_eq!(
        (&db["name"], &db["memory"]),
        (&json!("shop-db"), &json!(128))
    );
    assert_eq!(
        db["labels"],
        json!({ "mvm.project": "shop", "mvm.service": "db" })
    );
    assert_eq!(db["volumes"][0]["name"], "shop_data");
    assert_eq!(db["volumes"][0]["size"], "64M");
    // Its only network is internal.
    assert_eq!(db["interfaces"].as_array().map(Vec::len), Some(1));
    assert_eq!(db["interfaces"][0]["network"], "shop_back");
    assert_eq!(db["interfaces"][0]["aliases"], json!(["db"]));

    let web = machine("web", 2);
    assert_eq!(
        (&web["name"], &web["memory"]),
        (&json!("shop-web-2"), &json!(256))
    );
    let env = json!({ "GREETING": "hello, $USER", "TZ": "UTC" });
    assert_eq!(web["app"]["env"], env);
    let networks = web["interfaces"].as_array().expect("a list");
    let networks: Vec<_> = networks
        .iter()
        .map(|one| (&one["type"], &one["network"], &one["aliases"]))
        .collect();
    let expected = json!([
        ["user", null, null],
        ["network", "shop_back", ["web"]],
        ["network", "shop_default", ["web", "www"]],
    ]);
    assert_eq!(json!(networks), expected);

    let init = project.machine("init", &project.services["init"], 1);
    let kinds: Vec<_> = init.interfaces().iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [InterfaceKind::User]);
    assert_eq!(init.shares[0].source, Path::new("/shop/conf"));
    assert_eq!(init.restart, vmm::app::Restart::default());
}

#[test]
fn the_names_of_networks_and_volumes_of_all_have_no_project() {
    let project = read(&json!({
        "services": { "db": {
            "app": { "entrypoint": "/bin/db" },
            "volumes": [{ "name": "data", "mountPoint": "/data" }],
            "networks": ["office"],
        } },
        "volumes": { "data": { "external": true } },
        "networks": { "office": { "external": true } },
    }));
    let db = project.machine("db", &project.services["db"], 1);
    assert_eq!(db.volumes[0].name.as_deref(), Some("data"));
    assert_eq!(db.interfaces()[1].network.as_deref(), Some("office"));
}

#[test]
fn those_that_are_asked_for_come_with_what_they_need() {
    let project = read(&shop());
    let started = |names: &[&str], profiles: &[&str]| {
        let [names, profiles] = [names, profiles]
            .map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>());
        project
            .with_needs(&project.chosen(&names, &profiles))
            .join(" ")
    };
    assert_eq!(started(&[], &[]), "db init web");
    assert_eq!(started(&[], &["debug", "none"]), "db init web x");
    assert_eq!(started(&["db"], &[]), "db");
    assert_eq!(started(&["x"], &[]), "db init web x");
    assert_eq!(project.with_needs(&BTreeSet::new()), Vec::<String>::new());
}

#[test]
fn the_resolved_file_is_the_same_project() {
    let project = read(&shop());
    let resolved = project.to_json().expect("JSON");
    assert_eq!(
        resolved["services"]["web"]["app"]["env"]["GREETING"],
        "hello, $USER"
    );
    assert_eq!(read(&resolved), project);
}

#[test]
fn a_projects_name_is_what_is_asked_for_or_the_files_or_the_folders() {
    let bytes = |name: Option<&str>| {
        let mut file = json!({ "services": { "a": { "app": { "entrypoint": "/bin/a" } } } });
        if let Some(name) = name {
            file["name"] = name.into();
        }
        serde_json::to_vec(&file).expect("JSON")
    };
    let name = |path: &str, own, asked| {
        let file = ComposeFile::parse("", Path::new(path), &bytes(own), asked, &Variables::new());
        file.expect("a good file").project.name
    };
    assert_eq!(name("/a/b/compose.json", None, None), "b");
    assert_eq!(name("/a/My Shop.2/compose.json", None, None), "my-shop-2");
    assert_eq!(name("/a/b/compose.json", Some("own"), None), "own");
    assert_eq!(
        name("/a/b/compose.json", Some("own"), Some("asked")),
        "asked"
    );
}

fn validator() -> jsonschema::Validator {
    let schema = serde_json::to_value(Project::schema()).expect("a schema is JSON");
    jsonschema::draft202012::meta::validate(&schema).expect("a schema by its own rules");
    jsonschema::draft202012::new(&schema).expect("a schema")
}

#[test]
fn the_schema_takes_good_files_and_refuses_unknown_keys() {
    let validator = validator();
    for file in [shop(), read(&shop()).to_json().expect("JSON")] {
        let faults: Vec<_> = validator
            .iter_errors(&file)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(faults, Vec::<String>::new());
    }
    for (pointer, value) in [
        ("/service", json!({})),
        ("/services", json!({})),
        ("/services/db/memroy", json!("1G")),
        ("/services/db/name", json!("db")),
        ("/services/db/scale", json!(101)),
        ("/services/web/dependsOn", json!({ "db": "helthy" })),
        ("/services/web/networks", json!({ "back": { "alias": [] } })),
        ("/defaults/scale", json!(2)),
        ("/defaults/app/entrypoints", json!(2)),
        ("/volumes/data/size", json!(5)),
        ("/networks/back/driver", json!("bridge")),
    ] {
        let mut file = shop();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        file.pointer_mut(parent).expect("an object")[key] = value;
        assert!(!validator.is_valid(&file), "{pointer}");
    }
}
