//! `mvm nixos` as a user meets it, with a `nix-build` that only says what it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with a configuration, and a `nix-build` that says its arguments and then does this.
fn folder(script: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("configuration.nix"), "{ }").expect("write");
    let builder = folder.path().join("nix-build");
    let script = format!("#!/bin/sh\nprintf '<%s>' \"$@\" >&2\n{script}\n");
    fs::write(&builder, script).expect("write");
    fs::set_permissions(&builder, fs::Permissions::from_mode(0o755)).expect("mode");
    folder
}

fn mvm(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_mvm"))
        .args(arguments)
        .current_dir(folder.path())
        .env("PATH", folder.path())
        .env("MVM_HOME", folder.path().join("home"))
        .output()
        .expect("run mvm");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const SYSTEM: &str = "/nix/store/00000000000000000000000000000000-nixos-system-box-25.11";

#[test]
fn a_configuration_is_built_and_what_nix_says_is_shown() {
    let folder = folder(&format!("echo building >&2; echo {SYSTEM}"));
    let line = [
        "nixos",
        "-I",
        "a=/a",
        "./configuration.nix",
        "-Ib",
        "--build-only",
    ];
    let configuration = folder.path().canonicalize().unwrap();
    let configuration = configuration.join("configuration.nix");
    let told = format!(
        "<<nixpkgs/nixos>><-A><system><--no-out-link><-I><a=/a><-I><b><-I><nixos-config={}>building\n",
        configuration.display()
    );
    assert_eq!(mvm(&folder, &line), (Some(0), format!("{SYSTEM}\n"), told));
}

#[test]
fn what_was_built_is_run_with_the_flags() {
    let folder = folder(&format!("echo {SYSTEM}"));
    let line = ["nixos", "configuration.nix", "--dry-run", "--memory", "2G"];
    let (status, _, said) = mvm(&folder, &line);
    assert_eq!(status, Some(125));
    assert!(
        said.contains(SYSTEM) && said.contains("No such file"),
        "{said}"
    );
}

#[test]
fn nothing_is_built_for_a_line_that_run_would_refuse() {
    let folder = folder("touch built");
    let (status, _, said) = mvm(&folder, &["nixos", "configuration.nix", "--memroy", "2G"]);
    assert_eq!(status, Some(125));
    assert!(
        said.contains("--memroy") && !folder.path().join("built").exists(),
        "{said}"
    );
}

#[test]
fn what_keeps_it_from_being_built_is_told() {
    let failing = folder("exit 3");
    let (status, _, said) = mvm(&failing, &["nixos", "configuration.nix"]);
    assert_eq!(status, Some(125));
    assert!(
        said.ends_with("nix-build failed (exit status: 3)\n"),
        "{said}"
    );
    let (_, _, said) = mvm(&failing, &["nixos", "none.nix"]);
    assert!(
        said.starts_with("mvm: cannot find the configuration none.nix: "),
        "{said}"
    );
    fs::remove_file(failing.path().join("nix-build")).unwrap();
    let (_, _, said) = mvm(&failing, &["nixos", "configuration.nix"]);
    assert!(
        said.starts_with("mvm: cannot start nix-build, which builds the system: "),
        "{said}"
    );
    let silent = folder("true");
    let (_, _, said) = mvm(&silent, &["nixos", "configuration.nix"]);
    assert!(
        said.contains("cannot tell what nix-build has built"),
        "{said}"
    );
}
