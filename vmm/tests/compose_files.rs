//! Files of projects: what is read from good ones, and the exact errors of bad ones, which are in
//! `tests/bad-compose-json/NNN-name.{json,expected}`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use vmm::app::{App, InterfaceKind, Problems, Restart};
use vmm::compose::{Asked, ComposeFile, Project, Variables};

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
    assert_eq!(init.restart, Restart::default());
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
    let over = json!({ "include": ["a.json", { "path": ["b.json"], "envFile": "b.env" }] });
    for file in [shop(), read(&shop()).to_json().expect("JSON"), over] {
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
        ("/include", json!([{ "paths": "a.json" }])),
    ] {
        let mut file = shop();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        file.pointer_mut(parent).expect("an object")[key] = value;
        assert!(!validator.is_valid(&file), "{pointer}");
    }
}

/// Files by their paths in a folder of their own.
fn folder_of(files: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (path, file) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        let text = match file {
            Value::String(text) => text.clone(),
            file => file.to_string(),
        };
        fs::write(path, text).expect("write");
    }
    folder
}

/// The project of some files in a folder. Problems are those of files in it.
fn load(folder: &TempDir, files: &[&str]) -> Result<Project, String> {
    let files: Vec<_> = files.iter().map(|file| folder.path().join(file)).collect();
    let variables = Variables::from([("GREETING".into(), "hello".into())]);
    let loaded = ComposeFile::load(&Asked {
        files: &files,
        name: Some("p"),
        variables: &variables,
        // A name and a value, for which a line is enough.
        read_variables: &|path, _| {
            let text = fs::read_to_string(path).expect("variables");
            let (name, value) = text.trim().split_once('=').expect("a variable");
            Ok(Variables::from([(name.into(), value.into())]))
        },
    });
    let shown = format!("{}/", folder.path().display());
    loaded
        .map(|file| file.project)
        .map_err(|problems| problems.to_string().replace(&shown, ""))
}

fn service(program: &str) -> Value {
    json!({ "app": { "entrypoint": program } })
}

/// What a service of two files says under a key.
fn merged(key: &str, under: &Value, over: &Value) -> Value {
    let file = |value: &Value| {
        let mut web = json!({ "app": { "entrypoint": "/bin/web" } });
        let (section, key) = key.rsplit_once('/').unwrap_or(("", key));
        web.pointer_mut(section).expect("a section")[key] = value.clone();
        json!({
            "services": { "web": web, "db": service("/bin/db") },
            "networks": { "a": {}, "b": {} },
            "volumes": { "data": {} },
        })
    };
    let folder = folder_of(&[("a.json", file(under)), ("b.json", file(over))]);
    let project = load(&folder, &["a.json", "b.json"]).unwrap_or_else(|error| panic!("{error}"));
    let file = project.to_json().expect("JSON");
    let web = &file["services"]["web"];
    let shown = format!("{}/", folder.path().display());
    let value = if key.starts_with('/') {
        web.pointer(key)
    } else {
        web.get(key)
    };
    let text = value.cloned().unwrap_or_default().to_string();
    serde_json::from_str(&text.replace(&shown, "./")).expect("JSON")
}

#[test]
fn a_file_is_put_over_another_as_docker_compose_does_it() {
    for (key, under, over, expected) in [
        ("memory", json!("128M"), json!("256M"), json!(256)),
        ("/app/args", json!(["a", "b"]), json!(["c"]), json!(["c"])),
        (
            "/app/env",
            json!({ "A": "1", "B": "1" }),
            json!({ "B": "2", "C": null }),
            json!({ "A": "1", "B": "2", "C": null }),
        ),
        (
            "/app/groups",
            json!(["tty"]),
            json!(["tty", "44"]),
            json!(["tty", "44"]),
        ),
        (
            "ports",
            json!(["8080:80", "81:81"]),
            json!([{ "host": 8080, "guest": 80 }, "82:82"]),
            json!([
                { "host": 8080, "guest": 80, "address": "127.0.0.1", "protocol": "tcp" },
                { "host": 81, "guest": 81, "address": "127.0.0.1", "protocol": "tcp" },
                { "host": 82, "guest": 82, "address": "127.0.0.1", "protocol": "tcp" },
            ]),
        ),
        (
            "dependsOn",
            json!(["db"]),
            json!({ "db": "completed" }),
            json!({ "db": { "condition": "completed" } }),
        ),
        (
            "networks",
            json!({ "a": { "aliases": ["x"] } }),
            json!({ "a": { "aliases": ["y"] }, "b": {} }),
            json!({ "a": { "aliases": ["x", "y"] }, "b": {} }),
        ),
        ("profiles", json!(["a"]), json!(["b"]), json!(["a", "b"])),
        (
            "labels",
            json!({ "a": "1" }),
            json!({ "b": "2" }),
            json!({ "a": "1", "b": "2" }),
        ),
        (
            "hosts",
            json!({ "a": ["10.0.0.1"] }),
            json!({ "a": ["10.0.0.2"] }),
            json!({ "a": ["10.0.0.1", "10.0.0.2"] }),
        ),
        (
            "tmpfs",
            json!(["/run", "/tmp"]),
            json!([{ "mountPoint": "/tmp", "size": "1M" }]),
            json!([
                { "mountPoint": "/run", "size": "50%" }, { "mountPoint": "/tmp", "size": "1M" },
            ]),
        ),
        (
            "/healthcheck",
            json!({ "tcp": { "port": 80 }, "retries": 5 }),
            json!(null),
            Value::Null,
        ),
        (
            "restart",
            json!("always"),
            json!({ "policy": "on-failure", "maxRetries": 2 }),
            json!({ "policy": "on-failure", "maxRetries": 2 }),
        ),
    ] {
        let found = merged(key, &under, &over);
        let holds = match (&found, &expected) {
            // With what is so by default.
            (Value::Object(found), Value::Object(expected)) => expected
                .iter()
                .all(|(key, value)| found.get(key) == Some(value)),
            _ => found == expected,
        };
        assert!(holds, "{key}: {found}");
    }
}

#[test]
fn what_is_at_one_place_of_a_machine_is_there_once() {
    let mut under = service("/bin/web");
    under["shares"] = json!([
        { "source": "a", "mountPoint": "/a" },
        { "source": "b", "mountPoint": "/b" },
    ]);
    under["healthcheck"] = json!({ "tcp": { "port": 80 }, "retries": 5 });
    under["secrets"] = json!({ "key": { "env": "KEY", "mode": "0444" } });
    let over = json!({
        "shares": [{ "source": "/c", "mountPoint": "/a", "readOnly": true }],
        "volumes": [{ "name": "data", "mountPoint": "/b" }],
        "healthcheck": { "exec": ["true"] },
        "secrets": { "key": { "source": "key" } },
        "restart": null,
    });
    let mut first = json!({ "services": { "web": under }, "defaults": { "restart": "always" } });
    first["services"]["old"] = service("/bin/old");
    let second = json!({ "services": { "web": over, "old": null }, "volumes": { "data": { "size": "1G" } } });
    let folder = folder_of(&[("a/a.json", first), ("b/b.json", second)]);
    let project = load(&folder, &["a/a.json", "b/b.json"]).expect("a project");
    assert_eq!(project.services.len(), 1);
    let app = &project.services["web"].app;
    let shares: Vec<_> = app
        .shares
        .iter()
        .map(|one| (one.source.as_path(), one.read_only))
        .collect();
    assert_eq!(shares, [(Path::new("/c"), true)]);
    assert_eq!(app.volumes.len(), 1);
    let check = app.healthcheck.as_ref().expect("a check");
    assert_eq!(
        (check.exec.is_some(), check.tcp.is_none(), check.retries),
        (true, true, 5)
    );
    // Paths of all files start where the first one is.
    let source = app.secrets["key"].source.as_deref();
    assert_eq!(source, Some(&*folder.path().join("a/key")));
    assert_eq!(
        (app.secrets["key"].env.as_ref(), &*app.secrets["key"].mode),
        (None, "0444")
    );
    assert_eq!(app.restart, Restart::default());
}

#[test]
fn what_is_wrong_is_told_with_the_file_that_it_is_from() {
    let first = json!({ "services": { "web": service("/bin/web") } });
    let second = "{\n  \"services\": {\n    \"web\": { \"memory\": 1, \"prots\": [] },\n    \"db\": {}\n  }\n}";
    let folder = folder_of(&[("a.json", first), ("b.json", second.into())]);
    let error = load(&folder, &["a.json", "b.json", "c.json"]).expect_err("problems");
    let lines: Vec<_> = error
        .lines()
        .map(|line| line.split("; did").next())
        .collect();
    let expected = [
        "b.json:3:24: services.web.memory: must be from 32M to 1T, is 1M",
        "b.json:3:27: services.web: unknown key \"prots\"",
        "b.json:4:11: services.db.app.entrypoint: must be the program to run, where there is neither \"system\" nor \"image\"",
        "c.json: cannot open: No such file or directory (os error 2)",
    ];
    assert_eq!(lines, expected.map(Some), "{error}");
}

#[test]
fn an_included_file_has_its_own_folder_variables_and_defaults() {
    let whole = json!({
        "include": ["db/compose.json", { "path": ["mail/a.json", "mail/b.json"], "projectDirectory": "post" }],
        "defaults": { "memory": "64M" },
        "services": {
            "web": { "app": { "entrypoint": "/bin/web" }, "dependsOn": ["db", "mail"] },
        },
    });
    let db = json!({
        "name": "other",
        "include": ["../net.json"],
        "defaults": { "vcpus": 2 },
        "services": { "db": {
            "app": { "entrypoint": "/bin/db", "env": { "A": "${OWN} ${GREETING}" } },
            "shares": [{ "source": "conf", "mountPoint": "/conf" }],
            "networks": ["back"],
            "volumes": [{ "name": "data", "mountPoint": "/data" }],
        } },
        "volumes": { "data": {} },
    });
    let net = json!({ "networks": { "back": { "internal": true } } });
    let mail = json!({ "services": { "mail": service("/bin/mail") }, "include": ["../net.json"] });
    let share = json!([{ "source": "box", "mountPoint": "/box" }]);
    let folder = folder_of(&[
        ("main.json", whole),
        (
            "over.json",
            json!({ "services": { "db": { "vcpus": 3, "shares": [{ "source": "more", "mountPoint": "/more" }] } } }),
        ),
        ("db/compose.json", db),
        ("db/.env", "OWN=own".into()),
        ("net.json", net),
        ("mail/a.json", mail),
        (
            "mail/b.json",
            json!({ "services": { "mail": { "shares": share } } }),
        ),
        ("post/.env", "GREETING=lost".into()),
    ]);
    // What is included from a folder beside is in that folder, whoever includes it.
    let project = load(&folder, &["main.json", "over.json"]);
    let project = project.unwrap_or_else(|error| panic!("{error}"));
    let app = |name: &str| &project.services[name].app;
    let db = app("db");
    assert_eq!(db.app.env["A"].as_deref(), Some("own hello"));
    let sources: Vec<_> = db.shares.iter().map(|share| share.source.clone()).collect();
    assert_eq!(
        sources,
        ["db/conf", "more"].map(|path| folder.path().join(path))
    );
    assert_eq!((db.vcpus, db.memory), (3, App::new("a", vec![]).memory));
    assert_eq!(
        (app("web").vcpus, app("web").memory.to_string()),
        (1, "64M".into())
    );
    assert_eq!(app("mail").shares[0].source, folder.path().join("post/box"));
    assert!(project.networks["back"].internal);
    assert!(project.volumes.contains_key("data"));
    assert_eq!(project.name, "p");
}

#[test]
fn what_cannot_be_included_is_told_where_that_is_asked_for() {
    let web = || json!({ "services": { "web": service("/bin/web") } });
    let including = |what: Value| {
        let mut file = web();
        file["include"] = what;
        file
    };
    for (include, expected) in [
        (
            json!(["other.json"]),
            "main.json:1:45: services.web: is in other.json:1:20, too, which is included",
        ),
        (
            json!(["none.json"]),
            "main.json:1:13: include[0]: none.json: cannot open: No such file or directory (os error 2)",
        ),
        (
            json!(["main.json"]),
            "main.json:1:13: include[0]: main.json is included by itself",
        ),
        (
            json!(["round.json"]),
            "round.json:1:13: include[0]: main.json is included by itself",
        ),
        (
            json!([[]]),
            "main.json:1:13: include[0]: must be a string or an object, is a list",
        ),
        (
            json!([{ "paths": "a" }]),
            "main.json:1:13: include[0]: missing key \"path\"",
        ),
        (
            json!(["bad.json"]),
            "bad.json:1:2: unknown key \"servces\"; did you mean \"services\"?",
        ),
    ] {
        let folder = folder_of(&[
            ("main.json", including(include.clone())),
            (
                "other.json",
                json!({ "services": { "web": service("/bin/other") } }),
            ),
            ("round.json", including(json!(["main.json"]))),
            ("bad.json", json!({ "servces": {} })),
        ]);
        let error = load(&folder, &["main.json"]).expect_err("a problem");
        assert!(
            error.lines().any(|line| line.starts_with(expected)),
            "{include}: {error}"
        );
    }
}
