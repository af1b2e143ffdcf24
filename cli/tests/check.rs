//! `mvm check` and `mvm schema` as a user meets them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

const GOOD: &str = r#"{"name":"a","app":{"entrypoint":"/bin/sh"},"shares":[{"source":"www","mountPoint":"/bin"}]}"#;

/// A folder with a good file, a bad one, and one that names what is not there.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("write");
    fs::create_dir(folder.path().join("www")).expect("folder");
    write("good.json", GOOD);
    write(
        "bad.json",
        "{\n  \"name\": \"a\",\n  \"app\": { \"entrypoint\": \"/bin/sh\" },\n  \"memroy\": 1,\n  \"vcpus\": 0\n}",
    );
    write("absent.json", &GOOD.replace("www", "../nowhere"));
    folder
}

fn mvm(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mvm"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("run mvm")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_good_file_is_ok() {
    let folder = folder();
    let output = mvm(folder.path(), &["check", "good.json"]);
    assert_eq!(text(&output.stdout), "good.json: ok\n");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn quiet_says_nothing_of_a_good_file() {
    let folder = folder();
    let output = mvm(
        folder.path(),
        &["check", "--quiet", "good.json", "bad.json"],
    );
    assert_eq!(text(&output.stdout), "");
    assert_eq!(text(&output.stderr).lines().count(), 2);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn all_errors_of_a_bad_file_come_in_one_run() {
    let folder = folder();
    let output = mvm(folder.path(), &["check", "bad.json", "good.json"]);
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    assert!(
        lines[0].starts_with("bad.json:4:3: unknown key \"memroy\"; did you mean \"memory\"?"),
        "{lines:?}"
    );
    assert_eq!(
        lines[1..],
        ["bad.json:5:12: vcpus: must be from 1 to 64, is 0"]
    );
    assert_eq!(text(&output.stdout), "good.json: ok\n");
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn what_is_not_on_this_host_is_an_error_at_its_place() {
    let folder = folder();
    let output = mvm(folder.path(), &["check", "absent.json"]);
    let error = text(&output.stderr);
    let start = "absent.json:1:64: shares[0].source: cannot read folder ";
    assert!(
        error.starts_with(start) && error.ends_with("No such file or directory (os error 2)\n"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn an_image_is_looked_into() {
    let folder = folder();
    let app = r#"{"name":"a","image":"image.tar"}"#;
    fs::write(folder.path().join("image.json"), app).expect("write");
    // Packed, and no archive.
    fs::write(folder.path().join("image.tar"), b"\x1f\x8b\x08").expect("write");
    let image = folder.path().join("image.tar");
    let cannot = format!("cannot read image {}: ", image.display());
    for (file, start) in [
        ("image.json", format!("image.json:1:21: image: {cannot}")),
        (
            "image.tar",
            "image.tar: cannot read image image.tar: ".into(),
        ),
    ] {
        let output = mvm(folder.path(), &["check", file]);
        let error = text(&output.stderr);
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(output.status.code(), Some(125));
    }
}

#[test]
fn the_images_of_services_are_looked_into() {
    let folder = folder();
    fs::write(folder.path().join("image.tar"), b"\x1f\x8b\x08").expect("write");
    let compose = "{\n\"services\": {\n\"a\": { \"image\": \"image.tar\" },\n\
        \"b\": { \"app\": { \"entrypoint\": \"/bin/sh\" }, \"store\": \"none\" },\n\
        \"c\": { \"image\": \"image.tar:web\" }\n} }";
    fs::write(folder.path().join("compose.json"), compose).expect("write");
    let output = mvm(folder.path(), &["check", "compose.json"]);
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    let image = folder.path().join("image.tar");
    let cannot = format!("cannot read image {}: ", image.display());
    let starts = [
        format!("compose.json:3:17: services.a.image: {cannot}"),
        format!("compose.json:5:17: services.c.image: {cannot}"),
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(&start), "{line}");
    }
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn json_is_a_list_of_all_files() {
    let folder = folder();
    let output = mvm(folder.path(), &["check", "--json", "good.json", "bad.json"]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        list[0],
        json!({ "file": "good.json", "ok": true, "problems": [] })
    );
    assert_eq!(list[1]["ok"], json!(false));
    let second = json!({
        "file": "bad.json", "line": 5, "column": 12, "path": "vcpus", "message": "must be from 1 to 64, is 0",
    });
    assert_eq!(list[1]["problems"][1], second);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn the_standard_input_is_a_file_in_the_current_folder() {
    let folder = folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mvm"))
        .args(["check", "-"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run mvm");
    let mut input = child.stdin.take().expect("stdin");
    input.write_all(GOOD.as_bytes()).expect("write");
    drop(input);
    let output = child.wait_with_output().expect("wait");
    assert_eq!(text(&output.stdout), "-: ok\n");
}

#[test]
fn the_schema_is_json_with_its_dialect() {
    let output = mvm(Path::new("/"), &["schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        schema["$schema"],
        json!("https://json-schema.org/draft/2020-12/schema")
    );
    assert_eq!(schema["additionalProperties"], json!(false));
}

#[test]
fn the_doctor_fails_where_there_is_no_kernel() {
    let folder = folder();
    let output = Command::new(env!("CARGO_BIN_EXE_mvm"))
        .args(["doctor", "--json"])
        .env("MVM_KERNEL", folder.path().join("vmlinux"))
        .output()
        .expect("run mvm");
    assert_eq!(output.status.code(), Some(1));
    let checks: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let kernel = checks
        .as_array()
        .and_then(|checks| checks.iter().find(|check| check["name"] == "kernel"));
    assert_eq!(kernel.expect("a check")["level"], "fail");
}

#[test]
fn the_version_is_told_for_people_and_programs() {
    let folder = folder();
    let text_of = |args: &[&str]| text(&mvm(folder.path(), args).stdout).to_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(text_of(&["--version"]), format!("mvm {version}\n"));
    assert!(text_of(&["version"]).starts_with(&format!("mvm {version}\n")));
    let json: Value = serde_json::from_str(&text_of(&["version", "--json"])).expect("JSON");
    assert_eq!(json["version"], version);
    assert!(json["guestProtocol"].is_u64(), "{json}");
}
