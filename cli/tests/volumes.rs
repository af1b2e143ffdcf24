//! `mvm volume`, without a machine that runs.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Carries a command out with the state in `folder`.
fn mvm(folder: &TempDir, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mvm"));
    command.env("MVM_STATE_DIR", folder.path().join("state"));
    command.env("MVM_RUNTIME_DIR", folder.path().join("run"));
    command.env("MVM_ACCEL", "kvm").current_dir(folder.path());
    command.args(line.split(' ')).output().expect("run mvm")
}

/// The status, and what was said on both streams.
fn all(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), stdout, stderr)
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let run = |line: &str| mvm(&folder, &format!("volume {line}"));
    assert_eq!(all(&run("ls -q")), (Some(0), "", ""));
    let made = run("create --size 16M data");
    assert_eq!(all(&made), (Some(0), "data\n", ""));
    assert_eq!(all(&run("create data")), (Some(0), "data\n", ""));
    let file = folder.path().join("state/volumes/data.raw");
    assert_eq!(fs::metadata(&file).expect("file").len(), 16 << 20);

    let listed = run("ls");
    let (_, table, _) = all(&listed);
    let row: Vec<_> = table.lines().nth(1).expect("row").split("  ").collect();
    assert_eq!(row[..2], ["data", "16.0 MiB"], "{table}");
    let inspected = run("inspect data none");
    let (status, json, words) = all(&inspected);
    let missing = "mvm: there is no volume none; `mvm volume ls` lists all\n";
    assert_eq!((status, words), (Some(1), missing));
    let json: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json[0]["path"], file.to_str().expect("UTF-8"));
    assert_eq!(json[0]["sizeBytes"], 16 << 20);
    assert_eq!(json[0]["machines"], serde_json::json!([]));

    assert_eq!(all(&run("rm data")), (Some(0), "data\n", ""));
    assert_eq!(all(&run("rm data")).0, Some(125));
    assert_eq!(all(&run("rm -f data")), (Some(0), "data\n", ""));
    assert!(!file.exists());
    let wrong = run("create Data");
    let (status, _, words) = all(&wrong);
    let start = "mvm: cannot make volume \"Data\": name: must be 1 to 63 lower-case";
    assert!(status == Some(125) && words.starts_with(start), "{words}");
}

#[test]
fn a_volume_that_a_kept_machine_names_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let app = r#"{"name":"web","app":{"entrypoint":"/bin/sh"},"store":"none",
        "volumes":[{"name":"data","mountPoint":"/data"}]}"#;
    fs::write(folder.path().join("app.json"), app).expect("write");
    let run = |line: &str| mvm(&folder, line);
    assert_eq!(all(&run("create app.json")), (Some(0), "web\n", ""));
    assert_eq!(all(&run("volume create data")), (Some(0), "data\n", ""));
    let machines = |output: &Output| {
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        json[0]["machines"].clone()
    };
    let web = serde_json::json!([{ "name": "web", "running": false }]);
    assert_eq!(machines(&run("volume ls --json")), web);
    let words = "mvm: volume data is one of machine web; `mvm rm web` first, or --force\n";
    assert_eq!(all(&run("volume rm data")), (Some(125), "", words));
    assert_eq!(all(&run("volume ls -q")), (Some(0), "data\n", ""));
    assert_eq!(all(&run("rm web")), (Some(0), "web\n", ""));
    assert_eq!(all(&run("volume rm data")), (Some(0), "data\n", ""));
}

#[test]
fn volumes_that_no_machine_names_are_pruned() {
    let folder = tempfile::tempdir().expect("folder");
    let app = r#"{"name":"web","app":{"entrypoint":"/bin/sh"},"store":"none",
        "volumes":[{"name":"kept","mountPoint":"/data"}]}"#;
    fs::write(folder.path().join("app.json"), app).expect("write");
    let run = |line: &str| mvm(&folder, line);
    assert_eq!(all(&run("volume prune")), (Some(0), "", ""));
    assert_eq!(all(&run("create app.json")).0, Some(0));
    for name in ["kept", "one", "two"] {
        let made = run(&format!("volume create --size 16M {name}"));
        assert_eq!(all(&made).0, Some(0));
    }
    let asked = run("volume prune");
    let words = "mvm: 2 volumes would be removed with all that is in them; --force does so without \
                 being asked\n";
    assert_eq!(all(&asked), (Some(125), "", words));
    let pruned = run("volume prune -f");
    let (status, names, freed) = all(&pruned);
    assert_eq!((status, names), (Some(0), "one\ntwo\n"));
    assert!(
        freed.starts_with("mvm: freed ") && freed.ends_with("iB of the disk\n"),
        "{freed}"
    );
    assert_eq!(all(&run("volume ls -q")), (Some(0), "kept\n", ""));
    assert_eq!(all(&run("rm web")).0, Some(0));
    let pruned = run("volume prune --force --json");
    let (_, json, _) = all(&pruned);
    let json: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json[0]["name"], "kept");
    assert!(json[0]["freedBytes"].as_u64() > Some(0), "{json}");
    assert_eq!(all(&run("volume ls -q")), (Some(0), "", ""));
}

#[test]
fn nothing_is_pruned_where_a_machine_cannot_be_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let app = r#"{"name":"web","app":{"entrypoint":"/bin/sh"},"store":"none"}"#;
    fs::write(folder.path().join("app.json"), app).expect("write");
    let run = |line: &str| mvm(&folder, line);
    assert_eq!(all(&run("create app.json")).0, Some(0));
    assert_eq!(all(&run("volume create --size 16M data")).0, Some(0));
    // Of a later version, say.
    fs::write(folder.path().join("state/machines/web/app.json"), "{}").expect("write");
    let words = "mvm: cannot tell which volumes machine web names; `mvm rm web` removes it\n";
    assert_eq!(all(&run("volume prune -f")), (Some(125), "", words));
    assert_eq!(all(&run("volume ls -q")), (Some(0), "data\n", ""));
}
