//! A user who is not root. Root's tests become one, with a home and an emulated host of its own.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mvm_test::fixture;
use serde_json::json;
use tempfile::TempDir;

use crate::compose;
use crate::network::free_port;
use crate::on_host;
use crate::{runs_emulated_host, until};

/// Users, one for each test, and group where /dev/kvm has none: no system gives anyone such a number.
const NOBODYS: u32 = 54_321;
static USERS: AtomicU32 = AtomicU32::new(NOBODYS);

/// An ordinary user, who is gone at the end with all that was theirs.
struct User {
    home: TempDir,
    ids: (u32, u32),
}

impl User {
    fn new() -> Result<Self> {
        let own = rustix::process::geteuid().as_raw();
        let ids = match own {
            0 => {
                let user = USERS.fetch_add(1, Ordering::Relaxed);
                (user, kvm_group().unwrap_or(NOBODYS))
            }
            _ => (own, rustix::process::getegid().as_raw()),
        };
        let home = TempDir::with_prefix("mvm-test.")?;
        chown(home.path(), Some(ids.0), Some(ids.1))?;
        let user = Self { home, ids };
        for folder in ["run", "data"] {
            let path = user.path(folder);
            DirBuilder::new().mode(0o700).create(&path)?;
            user.give(&path)?;
        }
        // Where these are may be root's alone.
        let mvm = mvm_test::mvm();
        let kernel = env::var_os("MVM_KERNEL").context("tests/run names it")?;
        let (init, kernel) = (mvm.with_file_name("mvm-init"), PathBuf::from(kernel));
        for (file, copy) in [(mvm, "mvm"), (init, "mvm-init"), (kernel, "vmlinux")] {
            fs::copy(&file, user.path(copy)).with_context(|| format!("{}", file.display()))?;
            fs::set_permissions(user.path(copy), Permissions::from_mode(0o755))?;
        }
        Ok(user)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn give(&self, path: &Path) -> Result<()> {
        Ok(chown(path, Some(self.ids.0), Some(self.ids.1))?)
    }

    fn mvm(&self) -> Command {
        let mut command = Command::new(self.path("mvm"));
        command
            .uid(self.ids.0)
            .gid(self.ids.1)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("MVM_KERNEL", self.path("vmlinux"));
        command
    }

    /// What a script prints in a machine of this user's, where it runs as `user` in the folder
    /// `data`.
    fn run(&self, user: &str, script: &str) -> Result<String> {
        let app = json!({
            "version": 1,
            "name": "ordinary",
            "app": {
                "entrypoint": ["bash", "-c", format!("cd /data; {script}")],
                "env": { "PATH": format!("{}/bin", fixture("tools")) },
                "user": user,
            },
            "memory": "128M",
            "shares": [{ "source": "data", "mountPoint": "/data", "readOnly": false }],
        });
        fs::write(self.path("app.json"), app.to_string())?;
        self.carry_out(&["run", "app.json"])
    }

    /// What a command of this user's prints.
    fn carry_out(&self, arguments: &[&str]) -> Result<String> {
        let output = self.mvm().args(arguments).stdin(Stdio::null()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}\n{errors}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Processes on this host that are this user's.
    fn processes(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let is_own = entry
                .metadata()
                .is_ok_and(|folder| folder.uid() == self.ids.0);
            if let (true, Ok(name)) = (is_own, fs::read_to_string(entry.path().join("comm"))) {
                found.push(name);
            }
        }
        Ok(found)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // There is none where KVM works.
        let _ = self.mvm().args(["emulator", "stop"]).output();
    }
}

/// The group that may use KVM.
fn kvm_group() -> Option<u32> {
    let group = fs::metadata("/dev/kvm").ok()?.gid();
    (group != 0).then_some(group)
}

#[test]
fn files_of_a_writable_share_are_the_users_and_the_programs() -> Result<()> {
    let user = User::new()?;
    let data = user.path("data");
    fs::write(data.join("there"), "host\n")?;
    user.give(&data.join("there"))?;
    let script = r#"
        umask 022
        echo guest >> there; echo text > made; mkdir folder; ln -s made link; ln made second
        chown "$(id -u):$(id -g)" made && echo kept
        chown 33 made 2> errors || echo refused
        chgrp 33 made 2>> errors || echo refused
        chmod 6711 made; mknod null c 1 3 2>> errors || echo refused
        mkdir tree; echo x > tree/file; tar -cf archive tree; rm -r tree; tar -xf archive; rm archive
        stat -c '%n %u:%g %a' . there made folder link tree/file
    "#;
    for (name, shown) in [("root", "0:0"), ("web", "1000:1000")] {
        let seen = user.run(name, script)?;
        let answers = "kept\nrefused\nrefused\nrefused\n";
        let files = [". 700", "there 644", "made 711", "folder 755", "link 777"];
        let files = files.map(|file| file.replace(' ', &format!(" {shown} ")) + "\n");
        let expected = format!("{answers}{}tree/file {shown} 644\n", files.concat());
        assert_eq!(seen, expected);
        for name in ["there", "made", "folder", "link", "tree/file"] {
            let stat = fs::symlink_metadata(data.join(name))?;
            assert_eq!((stat.uid(), stat.gid()), user.ids, "{name}");
        }
        let errors = fs::read_to_string(data.join("errors"))?;
        let refused = errors.matches("Operation not permitted").count();
        assert_eq!(refused, 3, "{errors}");
        assert_eq!(fs::metadata(data.join("made"))?.mode() & 0o7777, 0o711);
        assert!(!data.join("null").exists());
        assert!(fs::read_to_string(data.join("there"))?.ends_with("guest\n"));
        for name in ["made", "second", "link", "errors"] {
            fs::remove_file(data.join(name))?;
        }
        for name in ["folder", "tree"] {
            fs::remove_dir_all(data.join(name))?;
        }
    }
    Ok(())
}

/// A server whose answers are files of a volume, and the machine's own.
fn server() -> serde_json::Value {
    json!({
        "version": 1,
        "name": "web",
        "memory": "128M",
        "app": {
            "entrypoint": ["python3", "-u", "-m", "http.server", "80", "--directory", "/data"],
            "env": { "PATH": format!("{}/bin", fixture("tools")) },
        },
        "volumes": [{ "name": "pages", "mountPoint": "/data", "size": "64M" }],
        "healthcheck": { "tcp": { "port": 80 }, "startPeriod": "60s" },
    })
}

/// Another machine, which asks the server for a page by its name.
fn client() -> serde_json::Value {
    json!({
        "version": 1,
        "name": "client",
        "memory": "128M",
        "app": {
            "entrypoint": ["curl", "--silent", "--show-error", "--fail", "http://web/page"],
            "env": { "PATH": format!("{}/bin", fixture("tools")) },
        },
        "interfaces": [{ "type": "network", "network": "shop" }],
    })
}

#[test]
fn a_service_with_a_port_a_volume_and_a_network() -> Result<()> {
    let user = User::new()?;
    fs::write(user.path("app.json"), server().to_string())?;
    fs::write(user.path("client.json"), client().to_string())?;
    fs::write(user.path("page"), "by an ordinary user\n")?;
    let publish = format!("{}:80", free_port());
    let (port, _) = publish.split_once(':').context("two ports")?;
    let ask = || {
        let url = format!("http://127.0.0.1:{port}/page");
        String::from_utf8(on_host(&format!("curl --silent --show-error --fail {url}")))
    };

    let flags = ["-d", "--wait", "--network", "shop", "-p", &publish];
    user.carry_out(&[&["run"], &flags[..], &["app.json"]].concat())?;
    user.carry_out(&["cp", "page", "web:/data/page"])?;
    assert_eq!(ask()?, "by an ordinary user\n");
    let page = user.carry_out(&["run", "client.json"])?;
    assert_eq!(page, "by an ordinary user\n");
    let words = "id -u; stat -c %U /data/page";
    assert_eq!(
        user.carry_out(&["exec", "web", "sh", "-c", words])?,
        "0\nroot\n"
    );
    user.carry_out(&["restart", "web"])?;
    user.carry_out(&["stop", "web"])?;
    user.carry_out(&["start", "web"])?;
    let port_line = user.carry_out(&["port", "web"])?;
    assert!(port_line.contains(port), "{port_line}");
    // It listens a while after it has started.
    let listens = "until cat < /dev/null > /dev/tcp/127.0.0.1/80; do sleep 0.1; done 2> /dev/null";
    user.carry_out(&["exec", "web", "bash", "-c", listens])?;
    assert_eq!(ask()?, "by an ordinary user\n");
    let log = user.carry_out(&["logs", "web"])?;
    assert!(log.contains("Serving HTTP"), "{log}");

    user.carry_out(&["rm", "--force", "web"])?;
    assert_eq!(user.carry_out(&["ps", "--all", "--quiet"])?, "");
    let _ = user.mvm().args(["emulator", "stop"]).output()?;
    // A user of this test's own has nothing else that runs. What has just ended may be seen until
    // process 1 has taken notice.
    let deadline = Instant::now() + Duration::from_secs(30);
    while user.ids.0 >= NOBODYS && !user.processes()?.is_empty() {
        let left = user.processes()?;
        assert!(Instant::now() < deadline, "{left:?}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_shop_of_an_ordinary_user() -> Result<()> {
    let user = User::new()?;
    let port = free_port();
    let mut shop = compose::shop(port)?;
    // What root's checkout has is not for all to read; the programs are nobody's.
    fs::set_permissions(user.path("data"), Permissions::from_mode(0o755))?;
    for name in ["web.py", "worker.py", "redis.py"] {
        let code = mvm_test::repository().join("examples/shop/code").join(name);
        fs::copy(code, user.path("data").join(name))?;
        user.give(&user.path("data").join(name))?;
    }
    for name in ["web", "worker"] {
        shop["services"][name]["shares"][0]["source"] = "./data".into();
    }
    fs::write(user.path("compose.json"), shop.to_string())?;
    user.carry_out(&["up", "-d", "--wait"])?;
    assert_eq!(compose::order(port), "1");
    compose::await_shipped(port, 1, 1);

    let inspected = user.carry_out(&["inspect", "shop-redis"])?;
    let inspected: serde_json::Value = serde_json::from_str(&inspected)?;
    let pid = inspected[0]["pid"].to_string();
    let is_emulated = user
        .carry_out(&["emulator", "status"])?
        .contains("runs, ready");
    let mut kill = if is_emulated {
        let mut kill = user.mvm();
        kill.args(["emulator", "exec", "--"]);
        kill
    } else {
        let mut kill = Command::new("env");
        kill.uid(user.ids.0).gid(user.ids.1);
        kill
    };
    // By the shell itself, since a small host has no such program.
    let killed = kill.args(["sh", "-c", "kill -9 \"$0\"", &pid]).status()?;
    assert!(killed.success());
    until(|| {
        let state = user.carry_out(&["inspect", "shop-redis"]);
        let state = state.and_then(|text| Ok(serde_json::from_str::<serde_json::Value>(&text)?));
        state.is_ok_and(|state| {
            state[0]["restarts"] == 1 && state[0]["health"]["status"] == "healthy"
        })
    });
    user.carry_out(&["down"])?;
    user.carry_out(&["up", "-d", "--wait"])?;
    compose::await_shipped(port, 1, 1);
    let removed = user.carry_out(&["down", "-v"])?;
    assert!(removed.ends_with("shop-redis\nshop_data\n"), "{removed}");
    assert_eq!(user.carry_out(&["ps", "--all", "--quiet"])?, "");
    Ok(())
}

#[test]
fn two_projects_of_an_ordinary_user() -> Result<()> {
    let user = User::new()?;
    fs::write(user.path("compose.json"), compose::asking().to_string())?;
    compose::two_do_not_reach_each_other(|words| {
        let words = [&["compose"], words].concat();
        let output = user.mvm().args(words).stdin(Stdio::null()).output()?;
        let status = output.status.code().context("a status")?;
        Ok((status, String::from_utf8(output.stdout)?))
    })?;
    assert_eq!(user.carry_out(&["ps", "--quiet"])?, "two-probe\ntwo-web\n");
    user.carry_out(&["compose", "-p", "two", "down"])?;
    Ok(())
}

/// The same as the user `$1` with the group `$2`, which may use KVM, and the port `$3`, with the
/// fixtures' programs in `$4`; prints what is seen.
const MEMBER: &str = r#"
    # What is made in this host's folders would be root's.
    home=$(mktemp -d /dev/shm/member.XXXXXX)
    cp -r . $home; cd $home; chown -R $1:$2 .
    facts=$(stat -c '%g %a' /dev/kvm)
    chgrp $2 /dev/kvm; chmod g+rw /dev/kvm
    setpriv --reuid $1 --regid $2 --clear-groups env -i PATH="$PATH:$4" bash -euc '
        export HOME=$PWD XDG_RUNTIME_DIR=$PWD/run MVM_KERNEL=$PWD/vmlinux
        mvm() { ./mvm --accel kvm "$@"; }
        mvm run -d --wait --network shop -p $0:80 app.json
        mvm cp page web:/data/page
        curl --silent --show-error --fail http://127.0.0.1:$0/page
        mvm run client.json
        mvm exec web id -u
        mvm restart web; mvm stop web; mvm start web; mvm rm --force web
        mvm ps --all --quiet
        # The network goes a while after its last machine.
        for _ in $(seq 300); do
            [ -n "$(ls -A run/mvm)" ] || break
            sleep 0.1
        done
        ls -A run/mvm
    ' $3
    status=$?
    set -- $1 $facts
    chgrp $2 /dev/kvm; chmod $3 /dev/kvm
    rm -r $home
    # What has just ended may be seen until process 1 has taken notice.
    for _ in $(seq 300); do
        left=$(find /proc -maxdepth 1 -user $1)
        [ -n "$left" ] || break
        sleep 0.1
    done
    echo "left: $left"
    exit $status
"#;

#[test]
fn a_service_of_a_member_of_group_kvm() -> Result<()> {
    let user = User::new()?;
    // With hardware KVM the other test is this one.
    if !runs_emulated_host() || user.ids.0 < NOBODYS {
        return Ok(());
    }
    fs::write(user.path("app.json"), server().to_string())?;
    fs::write(user.path("client.json"), client().to_string())?;
    fs::write(user.path("page"), "by a member\n")?;
    let [uid, port] = [user.ids.0, free_port().into()].map(|number| number.to_string());
    let output = Command::new(mvm_test::mvm())
        .args(["emulator", "exec", "--", "bash", "-c", MEMBER, "bash"])
        .args([&uid, &uid, &port, &format!("{}/bin", fixture("tools"))])
        .current_dir(user.home.path())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{errors}", output.status);
    let seen = String::from_utf8(output.stdout)?;
    assert_eq!(
        seen,
        "web\nby a member\nby a member\n0\nweb\nweb\nweb\nweb\nleft: \n"
    );
    Ok(())
}
