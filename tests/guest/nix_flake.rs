//! The flake: without inputs it evaluates offline, and who uses it gets machines with a nixpkgs of his own, for which
//! `tests/nix/nixpkgs` stands in. The package itself needs the Rust of nixpkgs: it is evaluated here, and not built.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use mvm_test::{Machine, Machines, fixtures_folder, repository};
use tempfile::TempDir;

use crate::network::free_port;
use crate::nixos::page;
use crate::until;

/// Those files of the repository that the flake reads, as a flake of their own: the repository's folder has more than Nix
/// should copy.
struct Flake {
    folder: TempDir,
}

impl Flake {
    fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("mvm-test.")?;
        let names = [
            "flake.nix",
            "nix",
            "Cargo.toml",
            "Cargo.lock",
            "guest-kernel",
        ];
        let files = names.map(|name| repository().join(name));
        let copied = Command::new("cp")
            .arg("-r")
            .args(files)
            .arg(folder.path())
            .status()?;
        ensure!(copied.success(), "cp: {copied}");
        Ok(Self { folder })
    }

    fn reference(&self, output: &str) -> String {
        format!("path:{}{output}", self.folder.path().display())
    }

    /// What a subcommand of `nix` does, offline.
    fn nix(&self, words: &[&str]) -> Result<Output> {
        let output = Command::new(fixtures_folder().join("bin/nix"))
            .args(["--extra-experimental-features", "nix-command"])
            .args(["--extra-experimental-features", "flakes", "--offline"])
            .args(words)
            .env("MVM_FIXTURES", fs::canonicalize(fixtures_folder())?)
            .env("HOME", self.folder.path())
            .output()?;
        ensure!(output.status.success(), "nix {words:?}: {output:?}");
        Ok(output)
    }

    fn text(&self, words: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.nix(words)?.stdout)?)
    }
}

#[test]
fn the_flake_has_no_inputs_and_evaluates_offline() -> Result<()> {
    let flake = Flake::new()?;
    flake.nix(&["flake", "check", &flake.reference("")])?;
    let metadata: serde_json::Value = serde_json::from_str(&flake.text(&[
        "flake",
        "metadata",
        "--json",
        &flake.reference(""),
    ])?)?;
    assert_eq!(metadata["locks"]["nodes"]["root"], serde_json::json!({}));
    let apply = "builtins.attrNames";
    let names = flake.text(&["eval", "--json", &flake.reference("#lib"), "--apply", apply])?;
    assert_eq!(
        names,
        r#"["buildApp","buildCompose","buildSystem","fromContainer","fromDocker","merge"]"#
    );
    Ok(())
}

#[test]
fn the_package_is_of_the_nixpkgs_in_the_search_path() -> Result<()> {
    let flake = Flake::new()?;
    let nixpkgs = format!(
        "nixpkgs={}",
        repository().join("tests/nix/nixpkgs").display()
    );
    let package = flake.reference("#packages.x86_64-linux.default");
    let asked = |attribute: &str| {
        let attribute = format!("{package}.{attribute}");
        flake.text(&["eval", "--impure", "--raw", "-I", &nixpkgs, &attribute])
    };
    assert_eq!(asked("asked.version")?, env!("CARGO_PKG_VERSION"));
    assert!(
        asked("asked.installPhase")?.contains(
            "install -D -m 755 target/x86_64-unknown-linux-gnu/release/mvm $out/bin/mvm\n"
        )
    );
    assert!(asked("kernel.asked.configurePhase")?.contains("make tinyconfig\n"));
    Ok(())
}

#[test]
fn the_template_is_a_machine_once_it_has_its_inputs() -> Result<()> {
    let flake = Flake::new()?;
    let mvm = flake.reference("");
    let nixpkgs = format!("path:{}", repository().join("tests/nix/nixpkgs").display());
    let template = flake.reference("/nix/template#web");
    let link = flake.folder.path().join("result");
    let link = link.to_string_lossy();
    flake.nix(&[
        "build",
        "--impure",
        "--no-write-lock-file",
        "-o",
        &link,
        "--override-input",
        "mvm",
        &mvm,
        "--override-input",
        "nixpkgs",
        &nixpkgs,
        &template,
    ])?;
    let port = free_port();
    let machines = Machines::new()?;
    let file = Machine::of_file(flake.folder.path().join("result/app.json"));
    machines.start(file.flag("--wait").flag("-p").flag(format!("{port}:8080")))?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.ends_with("<h1>From a machine</h1>\n"), "{answer}");
    let script = fs::read_to_string(flake.folder.path().join("result/bin/run-web"))?;
    assert!(script.contains("-mvm/bin/mvm run /nix/store/"), "{script}");
    Ok(())
}

#[test]
fn a_configuration_nix_is_built_and_run() -> Result<()> {
    let folder = TempDir::with_prefix("mvm-test.")?;
    let configuration = folder.path().join("configuration.nix");
    let port = free_port();
    // One that no store has yet, so that it is built.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let name = format!("shop{}", now.as_nanos());
    let text = format!(r#"{{ networking.hostName = "{name}"; }}"#);
    fs::write(&configuration, text)?;
    let configuration = configuration.to_string_lossy();
    let nixpkgs = repository().join("tests/nix/nixpkgs");
    let nixpkgs = format!("-Inixpkgs={}", nixpkgs.display());
    let fixtures = fs::canonicalize(fixtures_folder())?;
    let path = std::env::var("PATH")?;
    let machines = Machines::new()?
        .host_env("PATH", format!("{}:{path}", fixtures.join("bin").display()))
        .host_env("MVM_FIXTURES", &fixtures);

    let publish = format!("--publish={port}:80");
    let flags = ["--memory=512M", &publish, "--detach"];
    let line = ["nixos", &configuration, &nixpkgs];
    let output = machines.mvm(line.into_iter().chain(flags))?;
    assert_eq!(
        (output.status, output.stdout()),
        (0, format!("{name}\n")),
        "{output}"
    );
    let said = format!("building the system of {name}\n");
    assert!(output.stderr().contains(&said), "{output}");
    until(|| page(port).is_ok_and(|page| page.ends_with("hello from a system\n")));
    machines.mvm(["exec", &name, "systemctl", "poweroff"])?;
    assert_eq!(machines.mvm(["wait", &name])?.stdout(), "0\n");

    let built = machines.mvm(line.into_iter().chain(["--build-only"]))?;
    let deleted = Command::new(fixtures.join("bin/nix-store"))
        .args(["--delete", built.success().trim()])
        .output()?;
    ensure!(deleted.status.success(), "{deleted:?}");
    Ok(())
}
