//! `mvm compose` as a user meets it, as far as no machine is started.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder called "shop" with a file of that content, or without any.
fn folder(file: Option<&Value>) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::create_dir(folder.path().join("shop")).expect("folder");
    if let Some(file) = file {
        fs::write(folder.path().join("shop/compose.json"), file.to_string()).expect("write");
    }
    folder
}

fn mvm(folder: &TempDir, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mvm"))
        .args(arguments)
        .current_dir(folder.path().join("shop"))
        .env("MVM_HOME", folder.path().join("home"))
        .env("MVM_ACCEL", "kvm")
        .env("MVM_KERNEL", folder.path().join("shop/compose.json"))
        .env("FROM_HERE", "here")
        .output()
        .expect("run mvm")
}

/// Status, standard output and standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn two_services() -> Value {
    json!({
        "defaults": { "store": "none" },
        "services": {
            "web": {
                "app": { "entrypoint": "/bin/web", "env": { "A": "${FROM_HERE}-${FROM_FILE:-none}" } },
                "dependsOn": ["db"],
                "shares": [{ "source": "./www", "mountPoint": "/www" }],
            },
            "db": { "app": { "entrypoint": "/bin/db" } },
        },
    })
}

#[test]
fn the_file_is_told_as_it_is_understood() {
    let folder = folder(Some(&two_services()));
    fs::write(
        folder.path().join("shop/.env"),
        "FROM_FILE=file\nFROM_HERE=there\n",
    )
    .expect("write");
    let (status, text, errors) = told(&mvm(&folder, &["compose", "config"]));
    assert_eq!((status, &*errors), (Some(0), ""));
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["name"], "shop");
    assert_eq!(config["services"]["web"]["app"]["env"]["A"], "here-file");
    assert_eq!(config["services"]["db"]["store"]["mode"], "none");
    let www = folder.path().join("shop/www");
    assert_eq!(config["services"]["web"]["shares"][0]["source"], json!(www));
    let order = mvm(&folder, &["compose", "-p", "other", "config", "--services"]);
    assert_eq!(told(&order), (Some(0), "db\nweb\n".into(), String::new()));
}

/// What is told of a project, and what went wrong.
fn config(folder: &TempDir, flags: &[&str]) -> Result<Value, String> {
    let told = told(&mvm(folder, &[&["compose"], flags, &["config"]].concat()));
    match told.0 {
        Some(0) => Ok(serde_json::from_str(&told.1).expect("JSON")),
        _ => Err(told.2),
    }
}

#[test]
fn files_are_put_over_each_other_and_one_beside_is_by_itself() {
    let folder = folder(Some(&two_services()));
    let write = |path: &str, text: &str| {
        fs::write(folder.path().join("shop").join(path), text).expect("write");
    };
    let memory = |flags: &[&str]| {
        let config = config(&folder, flags).expect("a project");
        config["services"]["web"]["memory"].as_u64()
    };
    write(
        "compose.override.json",
        r#"{ "services": { "web": { "memory": "64M", "shares": null } } }"#,
    );
    write(
        "more.json",
        r#"{ "services": { "web": { "memory": "${MEMORY:-96M}" } } }"#,
    );
    assert_eq!(memory(&[]), Some(64));
    // Who names files has those alone.
    assert_eq!(memory(&["-f", "compose.json"]), Some(256));
    let both = ["-f", "compose.json", "-f", "more.json"];
    assert_eq!(memory(&both), Some(96));
    write(".env", "MEMORY=128M");
    assert_eq!(memory(&both), Some(128));

    write(".env", "\nA='x");
    let error = config(&folder, &both).expect_err("bad variables");
    let expected = "/shop/.env:2:1: A has no closing '\n";
    assert!(error.ends_with(expected), "{error}");
    write(".env", "");
    write("more.json", r#"{ "services": { "web": { "memory": 5 } } }"#);
    let error = config(&folder, &both).expect_err("a bad value");
    assert!(
        error.starts_with("more.json:1:36: services.web.memory: "),
        "{error}"
    );
}

#[test]
fn what_is_included_is_the_projects_and_one_name_is_one_things() {
    let folder = folder(Some(&two_services()));
    let write = |path: &str, text: &str| {
        let path = folder.path().join("shop").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, text).expect("write");
    };
    let mail = |name: &str| {
        format!(
            r#"{{ "services": {{ "{name}": {{ "store": "none", "app": {{ "entrypoint": "/bin/mail" }},
            "shares": [{{ "source": "${{BOX}}", "mountPoint": "/box" }}] }} }} }}"#
        )
    };
    let mut shop = two_services();
    shop["include"] = json!(["mail/compose.json"]);
    write("compose.json", &shop.to_string());
    write("mail/compose.json", &mail("mail"));
    write("mail/.env", "BOX=./box");
    let config_of = config(&folder, &[]).expect("a project");
    let source = &config_of["services"]["mail"]["shares"][0]["source"];
    assert_eq!(*source, json!(folder.path().join("shop/mail/box")));

    write("mail/compose.json", &mail("db"));
    let error = config(&folder, &[]).expect_err("a conflict");
    assert!(error.starts_with("compose.json:1:"), "{error}");
    let expected = ": services.db: is in mail/compose.json:1:23, too, which is included\n";
    assert!(error.ends_with(expected), "{error}");
}

#[test]
fn a_project_is_checked_as_a_file_is() {
    let folder = folder(Some(&two_services()));
    let (status, _, errors) = told(&mvm(&folder, &["check", "compose.json"]));
    assert_eq!(status, Some(125));
    assert!(errors.starts_with("compose.json:1:"), "{errors}");
    assert!(
        errors.contains(": services.web.shares[0].source: cannot read folder"),
        "{errors}"
    );
    fs::create_dir(folder.path().join("shop/www")).expect("folder");
    let good = told(&mvm(&folder, &["check", "compose.json"]));
    assert_eq!(good, (Some(0), "compose.json: ok\n".into(), String::new()));
    // By another name it is known by its services.
    fs::write(
        folder.path().join("shop/p.json"),
        r#"{ "services": { "a": {} } }"#,
    )
    .expect("write");
    let (_, _, errors) = told(&mvm(&folder, &["check", "p.json"]));
    let expected = "p.json:1:22: services.a.app.entrypoint: must be the program to run";
    assert!(errors.starts_with(expected), "{errors}");
}

#[test]
fn where_there_is_no_file_another_one_is_pointed_to() {
    let folder = folder(None);
    let without = told(&mvm(&folder, &["compose", "config"])).2;
    let expected = "mvm: there is no compose.json or mvm-compose.json in this folder; \
        --file names one elsewhere\n";
    assert_eq!(without, expected);
    fs::write(
        folder.path().join("shop/compose.yml"),
        "services: {a: {image: a}}",
    )
    .expect("write");
    let beside = told(&mvm(&folder, &["up"])).2;
    assert!(
        beside.contains("; `mvm import compose.yml` makes one of compose.yml\n"),
        "{beside}"
    );
    // A project that has no machines needs no file to be gone.
    let gone = told(&mvm(&folder, &["down", "-p", "none"]));
    assert_eq!(gone, (Some(0), String::new(), String::new()));
}

#[test]
fn what_is_no_service_is_an_error() {
    let folder = folder(Some(&two_services()));
    for arguments in [
        &["up", "wbe"][..],
        &["compose", "logs", "wbe"],
        &["compose", "exec", "wbe", "true"],
        &["compose", "restart", "wbe"],
        &["up", "--exit-code-from", "wbe"],
    ] {
        let (status, _, errors) = told(&mvm(&folder, arguments));
        assert_eq!(status, Some(125));
        assert_eq!(errors, "mvm: there is no service wbe; there are db, web\n");
    }
    let run = ["compose", "run", "--service-ports", "-p", "80", "web"];
    let (status, _, errors) = told(&mvm(&folder, &run));
    assert_eq!(status, Some(125), "{errors}");
    assert!(
        errors.contains("'--service-ports' cannot be used with '--publish"),
        "{errors}"
    );
    let scale = told(&mvm(&folder, &["up", "--scale", "wbe=2"])).2;
    assert_eq!(scale, "mvm: --scale: there is no service wbe\n");
}

#[test]
fn a_file_that_is_there_is_not_replaced_by_an_import() {
    let folder = folder(None);
    fs::write(
        folder.path().join("shop/a.yml"),
        "services: {a: {image: a}}\n",
    )
    .expect("write");
    let import = ["import", "a.yml", "-o", "compose.json"];
    let (status, text, remarks) = told(&mvm(&folder, &import));
    assert_eq!((status, &*text), (Some(0), ""));
    assert!(remarks.starts_with("a.yml:1:"), "{remarks}");
    let (status, _, errors) = told(&mvm(&folder, &import));
    assert_eq!(status, Some(125));
    assert!(
        errors.contains("cannot write compose.json: File exists"),
        "{errors}"
    );
    let config = told(&mvm(&folder, &["compose", "config", "--services"]));
    assert_eq!(config.1, "a\n");
}
