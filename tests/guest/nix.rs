//! The Nix library: what `tests/nix` calls it with, built by Nix, judged by `mvm check` and run.
//!
//! The one thing to know: there is no nixpkgs here. `tests/nix/pkgs.nix` stands in for the few functions of it that the
//! library uses, and its packages are the fixtures.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use mvm_test::{closure, fixture, fixtures_folder, repository};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Has one of Nix's programs look at an attribute of `tests/nix`.
pub fn nix(program: &str, attribute: &str, more: &[&OsStr]) -> Result<Output> {
    let program = fixtures_folder().join("bin").join(program);
    let output = Command::new(&program)
        .arg(repository().join("tests/nix"))
        .args(["--attr", attribute, "--option", "substituters", ""])
        .args(more)
        .output();
    output.with_context(|| format!("cannot run {}", program.display()))
}

/// An attribute's value, or what Nix says against it.
pub fn evaluated(attribute: &str) -> Result<Value, String> {
    let flags = ["--eval", "--strict", "--json"].map(OsStr::new);
    let output = nix("nix-instantiate", attribute, &flags).expect("nix-instantiate runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// What an attribute is built to, and machines that no other test sees.
pub struct Built {
    folder: TempDir,
}

impl Built {
    pub fn new(attribute: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("mvm-test.")?;
        // A root of Nix's as long as the link is there.
        let link = folder.path().join("result");
        let output = nix("nix-build", attribute, &["-o".as_ref(), link.as_ref()])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{attribute}: {errors}");
        Ok(Self { folder })
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join("result").join(inside)
    }

    /// A file of it, which `mvm check` must find nothing wrong with.
    pub fn checked(&self, name: &str) -> Result<Value> {
        let path = self.path(name);
        let output = self
            .command(mvm_test::mvm())
            .arg("check")
            .arg(&path)
            .output()?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{complaints}");
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// A program that finds the `mvm` under test where a user's shell would.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mvm = mvm_test::mvm();
        let folders = mvm.parent().into_iter().map(Path::to_path_buf);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&path)));
        let mut command = Command::new(program);
        command.env("MVM_HOME", self.folder.path().join("home"));
        command.env("PATH", path.expect("a search path"));
        command
    }

    /// What its program prints, which must succeed.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let program = self.path("bin").join(name);
        let output = self.command(program).args(arguments).output()?;
        ensure!(output.status.success(), "{name}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn mvm(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(mvm_test::mvm()).args(arguments).output()?;
        ensure!(output.status.success(), "mvm {arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let names = self.mvm(&["ps", "--all", "--quiet"]).unwrap_or_default();
        let names: Vec<_> = names.lines().collect();
        if !names.is_empty() {
            // A test that failed says more than this could.
            let _ = self.mvm(&[&["rm", "--force"], &names[..]].concat());
        }
    }
}

/// A process that ends with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Of one that has ended already there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_of_build_app_is_a_file_and_a_program_that_runs_it() -> Result<()> {
    let built = Built::new("app")?;
    let file = built.checked("app.json")?;
    let hello = format!("{}/bin/hello", fixture("hello"));
    let expected = json!({
        "version": 1,
        "name": "hello",
        "app": { "entrypoint": [hello], "args": ["--greeting", "of Nix"] },
    });
    assert_eq!(file, expected);
    assert_eq!(built.run("run-hello", &[])?, "of Nix\n");
    let words = ["--cpus", "2", "--", "--greeting", "of the shell"];
    assert_eq!(built.run("run-hello", &words)?, "of the shell\n");
    Ok(())
}

#[test]
fn the_files_closure_is_the_machines_and_has_nothing_of_mvm() -> Result<()> {
    let built = Built::new("app")?;
    let file = fs::canonicalize(built.path("app.json"))?;
    let file = file.to_str().context("a path that is text")?;
    let mut expected = closure(&fixture("hello"))?;
    expected.push(file.into());
    expected.sort();
    assert_eq!(closure(file)?, expected);
    Ok(())
}

#[test]
fn fields_of_the_file_win_over_those_of_docker() -> Result<()> {
    let built = Built::new("native")?;
    let file = built.checked("app.json")?;
    assert_eq!(
        file["app"]["env"],
        json!({ "GREETING": "native", "LEFT": "as it is" })
    );
    let script = fs::read_to_string(built.path("bin/run-native"))?;
    assert!(script.contains("exec mvm run /nix/store/"), "{script}");
    assert_eq!(built.run("run-native", &[])?, "native\n");
    Ok(())
}

#[test]
fn arguments_of_docker_tools_mean_what_docker_makes_of_them() -> Result<()> {
    let built = Built::new("docker")?;
    let file = built.checked("app.json")?;
    assert_eq!(file["name"], "web-app");
    assert_eq!(file["ports"], json!([":53/udp", ":8080/tcp"]));
    assert_eq!(file["app"]["stopSignal"], "SIGINT");
    let labels = json!({ "org.example": "x", "org.opencontainers.image.version": "1.2" });
    assert_eq!(file["labels"], labels);
    let check = json!({ "exec": [format!("{}/bin/true", fixture("tools"))], "interval": "2000ms", "retries": 2 });
    assert_eq!(file["healthcheck"], check);
    let fields = json!({ "name": "a", "app": { "entrypoint": ["/bin/a"] } });
    assert_eq!(evaluated("fromDocker"), Ok(fields));

    let said = built.run("run-web-app", &[])?;
    let (words, store) = said.split_at(said.find("directory\n").context("no folder /data")?);
    assert_eq!(words, "/srv/www\nof the root\nmore\nnobody\nb=c\n");
    let outside = fixture("outside");
    assert!(
        !store.contains(outside.trim_start_matches("/nix/store/")),
        "{store}"
    );
    Ok(())
}

#[test]
fn a_configuration_is_read_in_any_case_and_commands_make_files_of_the_root() -> Result<()> {
    let built = Built::new("lower")?;
    let file = built.checked("app.json")?;
    assert_eq!(file["hostname"], "inner");
    assert_eq!(file["app"]["env"], json!({ "A": "1" }));
    assert_eq!(file["app"]["stopTimeout"], "3s");
    let keys: Vec<_> = file.as_object().context("an object")?.keys().collect();
    assert_eq!(keys, ["app", "hostname", "image", "name", "version"]);
    assert_eq!(built.run("run-lower", &[])?, "made\n");
    Ok(())
}

#[test]
fn an_argument_that_a_machine_has_no_use_for_is_told_when_it_is_evaluated() {
    for (expression, expected) in [
        (
            "wrong.base",
            "base.fromImage is nothing that a machine can have: give the image",
        ),
        (
            "wrong.root",
            "root.fakeRootCommands is nothing that a machine can have: files of",
        ),
        (
            "wrong.key",
            "key: config.Memory is nothing that mvm knows; there are Entrypoint,",
        ),
        (
            "containers.unknown",
            "containers.unknown.bindMount is no option of a container",
        ),
        (
            "modules.refused",
            "containers.system.tmpfs is nothing that a machine can have: say it",
        ),
    ] {
        let said = evaluated(expression).expect_err(expression);
        assert!(said.contains(expected), "{expression}: {said}");
    }
}

#[test]
fn a_secret_that_nix_would_publish_is_refused() {
    let said = evaluated("secret.fields").expect_err("a secret in the store");
    assert!(
        said.contains("secrets.token: a path would be copied into the store"),
        "{said}"
    );
}

#[test]
fn services_of_build_compose_find_each_other() -> Result<()> {
    let built = Built::new("compose")?;
    let file = built.checked("compose.json")?;
    assert_eq!(
        file["services"]["client"]["dependsOn"],
        json!({ "web": "healthy" })
    );
    let said = built.run("run-shop", &["--exit-code-from", "client"])?;
    assert!(
        said.lines().any(|line| line == "client | of the root"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_system_of_build_system_starts() -> Result<()> {
    let built = Built::new("system")?;
    let file = built.checked("app.json")?;
    assert_eq!(file["system"], json!({ "path": fixture("system") }));
    assert_eq!(built.run("run-box", &["--detach", "--wait"])?, "box\n");
    assert_eq!(
        built.mvm(&["exec", "box", "cat", "/proc/1/comm"])?,
        "systemd\n"
    );
    built.mvm(&["stop", "box"])?;
    Ok(())
}

#[test]
fn a_containers_options_are_a_machines_fields() -> Result<()> {
    let system = fixture("system");
    let shared = json!({ "name": "shared", "memory": "1G", "system": { "path": system }, "interfaces": [{ "type": "user" }] });
    assert_eq!(
        evaluated("containers.shared").map_err(anyhow::Error::msg)?,
        shared
    );
    let private = json!({
        "version": 1,
        "name": "private",
        "memory": "1G",
        "system": { "path": system },
        "interfaces": [
            { "type": "user" },
            { "type": "tap", "hostAddress": "10.0.0.1", "localAddress": "10.0.0.2" },
        ],
        "ports": [
            { "address": "0.0.0.0", "host": 80, "guest": 80, "protocol": "tcp" },
            { "address": "0.0.0.0", "host": 53, "guest": 5353, "protocol": "udp" },
        ],
        "shares": [
            { "mountPoint": "/data", "source": "/var/tmp", "readOnly": false },
            { "mountPoint": "/etc", "source": "/etc", "readOnly": true },
        ],
        "root": { "persist": "private-root" },
        "volumes": [{ "name": "private-root", "size": "10G" }],
    });
    assert_eq!(Built::new("private")?.checked("app.json")?, private);
    let card =
        json!([{ "type": "bridge", "bridge": "br0", "addresses": ["10.3.0.2/24", "fd00::2/64"] }]);
    assert_eq!(
        evaluated("containers.bridged.interfaces").map_err(anyhow::Error::msg)?,
        card
    );
    let said = evaluated("containers.refused").expect_err("a card of the host's");
    assert!(
        said.contains("containers.refused.macvlans is nothing that a machine can have"),
        "{said}"
    );
    Ok(())
}

#[test]
fn commands_of_nixos_container_do_the_same_to_a_machine() -> Result<()> {
    let built = Built::new("container")?;
    built.checked("app.json")?;
    let file = built.path("app.json");
    let file = file.to_string_lossy();
    assert_eq!(built.mvm(&["create", &file])?, "shared\n");
    built.mvm(&["start", "shared"])?;
    crate::until(|| {
        let active = built.mvm(&["exec", "shared", "systemctl", "is-active", "web"]);
        active.is_ok_and(|active| active == "active\n")
    });
    assert!(
        built
            .mvm(&["status", "shared"])?
            .starts_with("shared: running")
    );
    assert!(built.mvm(&["list"])?.contains("shared  running"));
    assert_eq!(built.mvm(&["ip", "shared"])?.lines().count(), 1);
    assert_eq!(
        built.mvm(&["update", "shared", &file])?,
        "shared: unchanged\n"
    );

    let mut login = built.command(mvm_test::mvm());
    login.args(["login", "shared"]).stdin(Stdio::piped());
    let mut login = Started(login.stdout(Stdio::piped()).spawn()?);
    let mut words = login.0.stdin.take().context("a pipe")?;
    words.write_all(b"cat /proc/1/comm; exit 3\n")?;
    drop(words);
    let mut said = String::new();
    let mut answer = login.0.stdout.take().context("a pipe")?;
    answer.read_to_string(&mut said)?;
    assert_eq!(
        (said.as_str(), login.0.wait()?.code()),
        ("systemd\n", Some(3))
    );

    built.mvm(&["stop", "shared"])?;
    built.mvm(&["destroy", "shared"])?;
    assert_eq!(built.mvm(&["list", "--all", "--quiet"])?, "");
    Ok(())
}

#[test]
fn machines_of_the_nixos_module_are_files_and_units() -> Result<()> {
    let web = Built::new("modules.web")?;
    assert_eq!(web.checked("app.json")?["app"]["env"]["LANG"], "C.UTF-8");
    let file = fs::canonicalize(web.path("app.json"))?;
    assert_eq!(web.mvm(&["run", &file.to_string_lossy()])?, "of a module\n");

    let system = Built::new("modules.box")?;
    let expected = json!({
        "version": 1,
        "name": "box",
        "memory": "512M",
        "system": { "path": fixture("system"), "stopTimeout": "30s" },
        "interfaces": [{ "type": "user" }],
        "shares": [{ "source": "/var/tmp", "mountPoint": "/srv", "readOnly": true }],
        "limits": { "slice": "box.slice" },
    });
    assert_eq!(system.checked("app.json")?, expected);

    let services = evaluated("modules.services").map_err(anyhow::Error::msg)?;
    let names: Vec<_> = services.as_object().context("units")?.keys().collect();
    assert_eq!(names, ["mvm-box", "mvm-web"]);
    let start = format!("/run/current-system/sw/bin/mvm run {}", file.display());
    assert_eq!(services["mvm-web"]["serviceConfig"]["ExecStart"], start);
    assert_eq!(
        services["mvm-web"]["wantedBy"],
        json!(["multi-user.target"])
    );
    assert_eq!(services["mvm-box"]["wantedBy"], json!([]));
    assert_eq!(services["mvm-box"]["serviceConfig"]["Slice"], "box.slice");
    Ok(())
}

#[test]
fn units_of_the_module_are_as_the_installed_one() -> Result<()> {
    let unit = fs::read_to_string(repository().join("cli/systemd/mvm@.service"))?;
    let services = evaluated("modules.services").map_err(anyhow::Error::msg)?;
    let mut expected: Vec<_> = unit
        .lines()
        .skip_while(|line| *line != "[Service]")
        .collect();
    expected.retain(|line| line.contains('=') && !line.starts_with(['#', '[']));
    expected.retain(|line| !line.starts_with("ExecStart=") && !line.starts_with("WantedBy="));
    let config = services["mvm-web"]["serviceConfig"].as_object();
    let mut lines = Vec::new();
    for (key, value) in config.context("a service")? {
        let values = value
            .as_array()
            .map_or_else(|| vec![value.clone()], Clone::clone);
        for value in values.iter().filter(|_| key != "ExecStart") {
            let word = value.as_str().map_or_else(|| value.to_string(), Into::into);
            lines.push(format!(
                "{key}={}",
                if word == "true" { "yes" } else { &word }
            ));
        }
    }
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    Ok(())
}

#[test]
fn a_guest_of_microvm_nix_runs_by_its_runner() -> Result<()> {
    let built = Built::new("modules.runner")?;
    let share = built.path("share/microvm");
    assert_eq!(fs::read_to_string(share.join("hypervisor"))?, "mvm\n");
    assert_eq!(
        fs::canonicalize(share.join("system"))?,
        Path::new(&fixture("system"))
    );
    assert_eq!(
        fs::read_to_string(built.path("bin/tap-up"))?.lines().last(),
        Some("echo up")
    );
    assert_eq!(
        built.checked("share/microvm/app.json")?["kernel"],
        json!({ "cmdline": "quiet" })
    );

    let folder = tempfile::tempdir()?;
    let here = |program: &str| {
        let mut command = built.command(built.path("bin").join(program));
        command.current_dir(&folder).env_remove("MVM_HOME");
        command
    };
    let log = fs::File::create(folder.path().join("log"))?;
    let mut running = Started(here("microvm-run").stdout(log).spawn()?);
    crate::until(|| {
        let mut look = built.command(mvm_test::mvm());
        look.env("MVM_HOME", folder.path().join("mvm"));
        let seen = look
            .args(["exec", "guest", "systemctl", "is-active", "web"])
            .output();
        seen.is_ok_and(|seen| seen.stdout == b"active\n")
    });
    let stopped = here("microvm-shutdown").output()?;
    ensure!(stopped.status.success(), "microvm-shutdown: {stopped:?}");
    assert_eq!(running.0.wait()?.code(), Some(0));
    let said = fs::read_to_string(folder.path().join("log"))?;
    assert!(said.starts_with("before\n"), "{said}");
    Ok(())
}

#[test]
fn options_of_microvm_nix_are_fields_or_told() -> Result<()> {
    let fields = evaluated("modules.connected.fields").map_err(anyhow::Error::msg)?;
    let cards = json!([
        { "type": "tap", "hostName": "vm0", "mac": "02:00:00:00:00:01" },
        { "type": "user", "mac": "02:00:00:00:00:02" },
    ]);
    assert_eq!(fields["interfaces"], cards);
    let port = json!([{ "address": "0.0.0.0", "host": 2222, "guest": 22, "protocol": "tcp" }]);
    assert_eq!(fields["ports"], port);
    assert_eq!(fields["volumes"][0]["size"], "64M");
    assert_eq!(fields["system"]["kernel"], "own");
    let built = Built::new("modules.connected")?;
    built.checked("share/microvm/app.json")?;
    let taps = fs::read_to_string(built.path("share/microvm/tap-interfaces"))?;
    assert_eq!(taps, "vm0\n");

    let complaints = evaluated("modules.complaints").map_err(anyhow::Error::msg)?;
    let told = json!([
        "mvm: microvm.shares: mvm serves the store, which needs one with source = \"/nix/store\"",
        "mvm: microvm.shares: proto must be \"virtiofs\"",
        "mvm: microvm.interfaces: type must be user, tap or bridge",
    ]);
    assert_eq!(complaints, told);
    let unlike = evaluated("modules.unlike").map_err(anyhow::Error::msg)?;
    let unlike: Vec<_> = unlike.as_array().context("a list")?.iter().collect();
    let options = unlike.iter().map(|line| {
        let line = line.as_str().unwrap_or_default();
        line.split([' ', ':']).nth(2).unwrap_or_default()
    });
    let expected = [
        "microvm.volumes",
        "microvm.volumes",
        "microvm.volumes",
        "microvm.volumes",
        "microvm.forwardPorts",
        "microvm.devices",
        "microvm.graphics",
        "microvm.vsock.ssh",
        "microvm.hotplugMem",
        "microvm.extraArgsScript",
    ];
    assert_eq!(options.collect::<Vec<_>>(), expected);
    Ok(())
}
