//! Programs with all that they need in one file: bundles, also where there is no store, and images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use mvm_test::{Machine, Machines, closure, fixture, fixtures_folder};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::engines::engine_with;
use crate::{on_host, where_machines_run};

/// An app.json in a folder of its own.
struct Built {
    folder: TempDir,
}

impl Built {
    /// One that runs `script` in bash, and says `more`.
    fn new(script: &str, more: &Value) -> Result<Self> {
        let bin = format!("{}/bin", fixture("tools"));
        let mut app = json!({
            "version": 1, "name": "web", "memory": "128M",
            "app": { "entrypoint": [format!("{bin}/bash"), "-c", script], "env": { "PATH": bin } },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            app[key] = value.clone();
        }
        let folder = tempdir()?;
        fs::write(folder.path().join("app.json"), app.to_string())?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `mvm build` there.
    fn mvm(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(mvm_test::mvm());
        command.args(["build", "app.json"]).args(flags);
        command.current_dir(&self.folder);
        command
    }

    /// Builds, which must succeed; returns what it printed.
    fn build(&self, flags: &[&str]) -> Result<String> {
        let output = self.mvm(flags).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}\n{errors}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The one line that it refuses with.
    fn refusal(&self, flags: &[&str]) -> Result<String> {
        let output = self.mvm(flags).output()?;
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        Ok(String::from_utf8(output.stderr)?)
    }
}

/// What is in the store, without the lengths of folders, which are the file system's own.
fn listing(paths: &[String]) -> String {
    let paths = paths.join(" ");
    format!(
        "list() {{ find {paths} \"$@\" -print0 | LC_ALL=C sort -z; }}
        list -type d | LC_ALL=C xargs -0 stat -c '%N %f %u:%g %Y'
        list -not -type d | LC_ALL=C xargs -0 stat -c '%N %f %u:%g %s %Y'
        list -type f | xargs -0 md5sum"
    )
}

#[test]
fn a_bundle_has_the_closure_as_it_is_and_shares_of_the_host_that_runs_it() -> Result<()> {
    let paths = closure(&fixture("tools"))?;
    let script = format!(
        "{}\nls /nix/store | wc -l; grep -c ' /nix/store erofs ro,' /proc/mounts
        touch /nix/store/new 2>&1; cat /srv/page; echo written >/data/new; echo \"$0 $*\"",
        listing(&paths)
    );
    let shares = json!([
        { "source": "www", "mountPoint": "/srv" },
        { "source": "./data", "mountPoint": "/data", "readOnly": false },
    ]);
    let built = Built::new(&script, &json!({ "shares": shares, "memory": "512M" }))?;
    let said = built.build(&["-o", "other.mvm"])?;
    assert!(
        said.starts_with("other.mvm (") && said.ends_with(" MiB)\n"),
        "{said}"
    );

    let host = tempdir()?;
    let bundle = host.path().join("web.mvm");
    fs::copy(built.path("other.mvm"), &bundle)?;
    for folder in ["www", "data"] {
        fs::create_dir(host.path().join(folder))?;
    }
    fs::write(host.path().join("www/page"), "of this host\n")?;
    let machine = Machine::of_file(&bundle).argument("one").argument("two");
    let output = machine.run()?;

    let files = String::from_utf8_lossy(&on_host(&listing(&paths))).into_owned();
    let rest = format!(
        "{}\n1\ntouch: cannot touch '/nix/store/new': Read-only file system\nof this host\none two\n",
        paths.len()
    );
    let seen = output.success();
    let differs = seen
        .lines()
        .zip(files.lines())
        .find(|(seen, host)| seen != host);
    assert_eq!(differs, None);
    assert_eq!(seen.strip_prefix(&*files), Some(&*rest));
    assert_eq!(fs::read(host.path().join("data/new"))?, b"written\n");
    Ok(())
}

/// Runs bundles by mvm alone, without the guest's program beside it and without a kernel of the host's.
const WITHOUT_STORE: &str = r#"
    mount -t tmpfs tmpfs /nix
    # For sockets, which 9p has none of.
    mkdir "$0/run"; mount -t tmpfs -o mode=700 tmpfs "$0/run"
    unset MVM_KERNEL MVM_INIT
    export MVM_RUNTIME_DIR=$0/run MVM_STATE_DIR=$0/state HOME=$0
    cd "$0"
    ls -A /nix
    ./mvm check web.mvm
    ./mvm run -e GREETING=hello web.mvm
    ./mvm run --dry-run web.mvm >plan.json
    ./mvm run -d web.mvm
    ./mvm wait web
    ./mvm logs web
    ./mvm inspect web >inspect.json
    ./mvm start web
    ./mvm wait web
    ./mvm rm web
"#;

#[test]
fn a_bundle_is_run_where_there_is_no_store() -> Result<()> {
    let built = Built::new("echo ${GREETING:-nothing}; exit 3", &json!({}))?;
    built.build(&[])?;
    fs::copy(mvm_test::mvm(), built.path("mvm"))?;
    let script = format!("{WITHOUT_STORE}true");
    let words = ["unshare", "--mount", "sh", "-c", &script];
    let output = where_machines_run(&words)
        .arg(built.folder.path())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        seen, "web.mvm: ok\nhello\nweb\n3\nnothing\nweb\n3\nweb\n",
        "{errors}"
    );
    let read =
        |name| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(built.path(name))?)?) };
    let plan = read("plan.json")?;
    let bundle = json!(built.path("web.mvm"));
    assert_eq!(plan["store"], json!({ "mode": "bundle", "path": bundle }));
    assert_eq!(
        [&plan["kernel"], &plan["init"], &plan["app"]["bundle"]],
        [&bundle; 3]
    );
    Ok(())
}

#[test]
fn the_same_inputs_make_the_same_bytes() -> Result<()> {
    let built = Built::new(
        "true",
        &json!({ "volumes": [{ "name": "a", "mountPoint": "/a" }] }),
    )?;
    let hello = format!("{}/bin/hello", fixture("hello"));
    let app = json!({ "name": "hello", "app": { "entrypoint": hello } });
    fs::write(built.path("app.json"), app.to_string())?;
    for (name, flags) in [("a", &[] as &[&str]), ("b", &["--oci", "--tag=x/y:1"])] {
        let first = built.path(name);
        built.build(&[flags, &["-o", name]].concat())?;
        // Elsewhere, by somebody with other habits, over a file that is there.
        let other = tempdir()?;
        let second = other.path().join(name);
        fs::write(&second, "there already")?;
        let output = Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" \"$@\""])
            .arg(mvm_test::mvm())
            .arg("build")
            .arg(built.path("app.json"))
            .args(flags)
            .args(["--json", "-o"])
            .arg(&second)
            .env("SOURCE_DATE_EPOCH", "1000000000")
            .env("TZ", "Asia/Tokyo")
            .current_dir("/")
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout)?;
        let bytes = fs::read(&second)?;
        assert_eq!(told, json!({ "path": second, "bytes": bytes.len() }));
        assert!(bytes == fs::read(&first)?, "{name} differs");
        let mode = fs::metadata(&second)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&other)?.count(), 1);
    }
    let names = fs::read_dir(&built.folder)?.flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "app.json", "b"]);
    Ok(())
}

#[test]
fn what_cannot_be_built_or_run_is_refused_in_a_sentence() -> Result<()> {
    let refused = |more: &Value, flags: &[&str]| Built::new("true", more)?.refusal(flags);
    let folder = refused(&json!({}), &["-o", "."])?;
    assert_eq!(
        folder,
        "mvm: cannot write .: something is there that is no file\n"
    );
    let image = refused(&json!({ "image": "./x" }), &[])?;
    assert!(image.starts_with("app.json:1:"), "{image}");
    assert!(image.ends_with(
        ": image: has all that its program needs; `mvm build` is for programs of the store\n"
    ));
    let all = refused(&json!({ "store": "all" }), &["--oci"])?;
    assert!(all.contains("must not be \"all\" to build"), "{all}");
    let debian = fixtures_folder().join("debian-kernel/vmlinuz");
    let kernel = refused(&json!({ "kernel": debian }), &[])?;
    assert!(
        kernel.starts_with("mvm: kernel.path: ") && kernel.contains(" is no vmlinux"),
        "{kernel}"
    );
    let env = json!({ "ODD": fixture("odd-files") });
    let app = json!({ "entrypoint": "true", "env": env });
    let odd = refused(&json!({ "app": app }), &[])?;
    let words = ": its name has 255 bytes, and mkfs.erofs takes at most 254\n";
    assert!(
        odd.starts_with("mvm: cannot copy /nix/store/") && odd.ends_with(words),
        "{odd}"
    );
    let tag = refused(&json!({}), &["--oci", "--tag", "../x"])?;
    assert_eq!(
        tag,
        "mvm: --tag: must be a name such as web or web:1.0, is \"../x\"\n"
    );

    let built = Built::new("true", &json!({}))?;
    let output = built.mvm(&[]).env("PATH", "").output()?;
    assert_eq!(
        String::from_utf8(output.stderr)?,
        "mvm: cannot make the store's image: there is no mkfs.erofs here; the package erofs-utils has it\n"
    );
    let left: Vec<_> = fs::read_dir(&built.folder)?.collect();
    assert_eq!(left.len(), 1, "{left:?}");

    built.build(&["-o", "web.mvm"])?;
    let whole = fs::read(built.path("web.mvm"))?;
    let verdict = |command: &str, bytes: &[u8]| -> Result<Output> {
        let path = built.path("bad.mvm");
        fs::write(&path, bytes)?;
        let mut mvm = Command::new(mvm_test::mvm());
        let output = mvm
            .args([command, "bad.mvm"])
            .current_dir(&built.folder)
            .output()?;
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        Ok(output)
    };
    let cut = verdict("create", &whole[..whole.len() - 1])?;
    let expected = format!(
        "bad.mvm: it is cut short: it has {} bytes of {}\n",
        whole.len() - 1,
        whole.len()
    );
    assert_eq!(String::from_utf8(cut.stderr)?, expected);
    let mut damaged = whole;
    let last = damaged.len() - 5000;
    damaged[last] ^= 1;
    let damaged = String::from_utf8(verdict("check", &damaged)?.stderr)?;
    assert_eq!(damaged, "bad.mvm:1:1: bundle: its store is damaged\n");
    Ok(())
}

/// The system of the fixture by this name as a bundle, in the folder.
fn system(name: &str, kernel: &str, folder: &Path) -> Result<PathBuf> {
    let app = json!({
        "name": "box", "memory": "512M", "ready": "notify",
        "system": { "path": fixture(name), "kernel": kernel },
        "secrets": { "token": "token" },
    });
    fs::write(folder.join("app.json"), app.to_string())?;
    let mut build = Command::new(mvm_test::mvm());
    let output = build
        .args(["build", "app.json"])
        .current_dir(folder)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(folder.join("box.mvm"))
}

/// Runs a system where the host has no store, until it has switched itself off.
const SYSTEM_WITHOUT_STORE: &str = r#"
    mount -t tmpfs tmpfs /nix
    mkdir "$0/run"; mount -t tmpfs -o mode=700 tmpfs "$0/run"
    unset MVM_KERNEL MVM_INIT
    export MVM_RUNTIME_DIR=$0/run MVM_STATE_DIR=$0/state HOME=$0
    cd "$0"
    ls -A /nix
    ./mvm check box.mvm
    ./mvm run -d --wait box.mvm
    ./mvm exec box systemctl is-system-running
    ./mvm exec box cat /run/told; echo
    ./mvm exec box sh -c 'touch /nix/store/x 2>/dev/null || echo read-only
        ls /nix/store | wc -l; grep " / " /proc/mounts | cut -d" " -f3
        grep " /nix/store " /proc/mounts | cut -d" " -f3; uname -r | sed "s/.*-//"'
    ./mvm exec -d box systemctl poweroff
    ./mvm wait box
"#;

fn a_system_is_run_where_there_is_no_store(name: &str, kernel: &str, said: &str) -> Result<()> {
    let folder = tempdir()?;
    let bundle = system(name, kernel, folder.path())?;
    let bytes = fs::read(&bundle)?;
    assert!(bytes == fs::read(system(name, kernel, folder.path())?)?);
    fs::copy(mvm_test::mvm(), folder.path().join("mvm"))?;
    fs::write(folder.path().join("token"), "of this host")?;
    let words = ["unshare", "--mount", "sh", "-c", SYSTEM_WITHOUT_STORE];
    let output = where_machines_run(&words).arg(folder.path()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let paths = closure(&fixture(name))?.len();
    let expected =
        format!("box.mvm: ok\nbox\ndegraded\nof this host\nread-only\n{paths}\ntmpfs\n{said}\n0\n");
    let seen = String::from_utf8_lossy(&output.stdout);
    assert_eq!(seen, expected, "{errors}");
    Ok(())
}

#[test]
fn a_system_in_a_bundle_is_run_where_there_is_no_store() -> Result<()> {
    a_system_is_run_where_there_is_no_store("system", "mvm", "erofs\nmvm")
}

#[test]
fn one_with_its_own_kernel_brings_that_and_its_stage_1() -> Result<()> {
    a_system_is_run_where_there_is_no_store("system-own", "own", "virtiofs\namd64")
}

#[test]
fn a_system_is_no_image() -> Result<()> {
    let folder = tempdir()?;
    let mut build = Command::new(mvm_test::mvm());
    let output = build
        .args(["build", "--oci", &fixture("system")])
        .current_dir(&folder)
        .output()?;
    assert_eq!(output.status.code(), Some(125));
    let errors = String::from_utf8(output.stderr)?;
    let words = "system: wants a machine of its own, which no image brings; leave out --oci\n";
    assert!(errors.ends_with(words), "{errors}");
    Ok(())
}

/// What podman makes of an archive: `$0`, as a container and as a machine.
const RUN: &str = r#"
    podman --runtime runc run --rm --network none oci-archive:$0 more; echo "status $?"
    run --rm --network none oci-archive:$0 more
    podman load --quiet --input $0 >/dev/null
    podman image inspect --format '{{.RepoTags}} {{.Config.ExposedPorts}} {{.Config.Volumes}} {{.Config.StopSignal}} {{.Config.Labels}}' web:1
"#;

#[test]
fn an_image_is_run_by_podman_as_by_mvm() -> Result<()> {
    let script = "echo $UID ${GROUPS[0]} $PWD $FOO \"$0 $*\"; echo x >/tmp/x; read -r line </tmp/x; echo $line
        while IFS=: read -r name _ id _; do [ $id = $UID ] && echo $name; done </etc/passwd; exit 3";
    let bash = format!("{}/bin/bash", fixture("bash"));
    let more = json!({
        "app": {
            "entrypoint": [bash, "-c", script, "name"], "args": ["one", "two"],
            "env": { "FOO": "bar" }, "user": "web", "cwd": "/var/tmp", "stopSignal": "SIGQUIT",
        },
        "ports": [":80"], "labels": { "tier": "web" },
        "volumes": [{ "name": "data", "mountPoint": "/data", "size": "16M" }],
    });
    let built = Built::new("", &more)?;
    // Where the engines see it, whose /tmp is another one.
    let place = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let archive = place.path().join("web.oci.tar");
    let shown = archive.to_string_lossy();
    built.build(&["--oci", "--tag", "web:1", "-o", &shown])?;

    let machines = Machines::new()?;
    let by_mvm = |path: &Path| machines.own(Machine::of_file(path).argument("more")).run();
    let expected = "1000 1000 /var/tmp bar name more\nx\nweb\n";
    for path in [&built.path("app.json"), &archive] {
        let output = by_mvm(path)?;
        assert_eq!(
            (output.status, &*output.stdout()),
            (3, expected),
            "{output}"
        );
    }
    let seen = engine_with(RUN, &[archive.as_os_str()])?;
    assert_eq!(
        seen,
        format!(
            "{expected}status 3\n{expected}status 3\n\
             [localhost/web:1] map[80/tcp:{{}}] map[/data:{{}}] SIGQUIT map[tier:web]\n"
        )
    );
    Ok(())
}
