//! `mvm run --dry-run` as a user meets it.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const APP: &str = r#"{"name":"web","app":{"entrypoint":"/bin/sh"},"store":"none","memory":"64M"}"#;

/// A folder with a file and a kernel, which nobody looks into.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("app.json"), APP).expect("write");
    fs::write(folder.path().join("vmlinux"), "").expect("write");
    fs::write(folder.path().join("mvm-init"), "").expect("write");
    folder
}

fn mvm(folder: &TempDir, arguments: &[&str]) -> Output {
    with_home(folder, arguments)
        .env("MVM_STATE_DIR", folder.path().join("state"))
        .env("MVM_RUNTIME_DIR", folder.path().join("run"))
        .output()
        .expect("run mvm")
}

/// A command whose machines are elsewhere as a whole.
fn with_home(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mvm"));
    command
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("MVM_STATE_DIR")
        .env_remove("MVM_RUNTIME_DIR")
        .env("MVM_HOME", folder.path().join("home"))
        .env("MVM_KERNEL", folder.path().join("vmlinux"))
        .env("MVM_INIT", folder.path().join("mvm-init"));
    command
}

fn plan(folder: &TempDir, flags: &[&str]) -> Value {
    let output = mvm(folder, &[&["run", "--dry-run", "app.json"], flags].concat());
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*words), (Some(0), ""));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn what_would_be_done_is_told_and_not_done() {
    let folder = folder();
    let at = |name: &str| json!(folder.path().join(name));
    let here = plan(
        &folder,
        &["--accel", "kvm", "-m", "128M", "-p", "8080:80", "-eA=b"],
    );
    assert_eq!(here["name"], "web");
    assert_eq!(here["accel"], "kvm");
    assert_eq!(here["kernel"], at("vmlinux"));
    assert_eq!(here["store"], json!({ "mode": "none" }));
    let folders = json!({ "runtime": at("run/web"), "state": at("state") });
    assert_eq!(here["folders"], folders);
    assert_eq!(here["app"]["memory"], 128);
    assert_eq!(here["app"]["app"]["env"], json!({ "A": "b" }));
    assert_eq!(here["app"]["ports"].as_array().map(Vec::len), Some(1));
    let emulated = plan(&folder, &["--accel", "emulated", "--name", "other"]);
    let accel = json!({ "emulated": "--accel emulated" });
    assert_eq!(
        (&emulated["name"], &emulated["accel"]),
        (&json!("other"), &accel)
    );
    assert!(!folder.path().join("state").exists());
    assert!(!folder.path().join("run").exists());
}

/// An image without layers whose program writes to two folders.
fn archive() -> Vec<u8> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": ["/bin/sh"], "Volumes": { "/data": {}, "/log": {} } },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["test:1"], "Layers": [] }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
        let content = content.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let put = archive.append_data(&mut header, name, content.as_bytes());
        put.expect("put into the archive");
    }
    archive.into_inner().expect("archive")
}

#[test]
fn a_flags_folder_takes_the_place_of_the_images() {
    let folder = folder();
    fs::write(folder.path().join("image.tar"), archive()).expect("write");
    let app = r#"{"name":"web","image":"./image.tar","app":{},"root":{"readOnly":true}}"#;
    fs::write(folder.path().join("app.json"), app).expect("write");
    let points = |flags: &[&str]| {
        let app = &plan(&folder, flags)["app"];
        let points = app["tmpfs"].as_array().expect("folders").iter();
        let points = points.map(|one| one["mountPoint"].as_str().expect("path").to_owned());
        points.collect::<Vec<_>>()
    };
    assert_eq!(points(&[]), ["/data", "/log"]);
    assert_eq!(points(&["--tmpfs", "/log:size=1M"]), ["/log", "/data"]);
    assert_eq!(points(&["-v", "files:/data"]), ["/log"]);
}

#[test]
fn what_could_not_be_done_is_an_error() {
    let folder = folder();
    let created = mvm(&folder, &["--accel=kvm", "create", "app.json"]);
    assert_eq!(created.status.code(), Some(0), "{created:?}");
    assert_eq!(plan(&folder, &[])["name"], "web-2");
    assert_eq!(plan(&folder, &["--replace"])["replaces"], true);
    plan(&folder, &["--rm", "--restart=no"]);
    plan(&folder, &["--detach", "--restart=always"]);
    for (flags, words) in [
        (
            &["--name=web"][..],
            "mvm: there is a machine web already; --replace has it go first",
        ),
        (&["--kernel=/no/such"], "app.json:1:1: kernel.path: "),
        (
            &["-v", "/no/such:/data"],
            "mvm: --volume: there is no folder or file /no/such",
        ),
        (
            &["--restart=always"],
            "mvm: --restart: only a machine in the background is started again; add --detach",
        ),
        (
            &["-d", "--rm", "--restart=on-failure:3"],
            "mvm: --restart: a machine that --rm removes at its end is not started again",
        ),
    ] {
        let refused = mvm(
            &folder,
            &[&["run", "--dry-run", "app.json"], flags].concat(),
        );
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(125));
        assert!(told.starts_with(words), "{told}");
    }
}

#[test]
fn one_variable_moves_all_and_two_win_over_it() {
    let folder = folder();
    let at = |name: &str| json!(folder.path().join(name));
    let told = |variables: &[(&str, &str)]| {
        let mut command = with_home(&folder, &["--accel=kvm", "run", "--dry-run", "app.json"]);
        for (name, place) in variables {
            command.env(name, folder.path().join(place));
        }
        let output = command.output().expect("run mvm");
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        plan["folders"].clone()
    };
    assert_eq!(
        told(&[]),
        json!({ "runtime": at("home/run/web"), "state": at("home/state") })
    );
    assert_eq!(
        told(&[("MVM_STATE_DIR", "kept")]),
        json!({ "runtime": at("home/run/web"), "state": at("kept") })
    );
    assert_eq!(
        told(&[("MVM_RUNTIME_DIR", "alive")]),
        json!({ "runtime": at("alive/web"), "state": at("home/state") })
    );
}
