//! Projects: machines that are started, found and ended together.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mvm_test::{Machines, Output, Running, Signal, fixture, fixtures_folder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::network::free_port;
use crate::{kill_where_machines_run, on_host, until};

/// A file of a project, and a set of machines that no other test sees.
struct Project {
    machines: Machines,
    folder: TempDir,
}

impl Project {
    fn new(file: &Value) -> Result<Self> {
        let project = Self {
            machines: Machines::new()?,
            folder: TempDir::with_prefix("mvm-test.")?,
        };
        project.write(file)?;
        Ok(project)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("compose.json")
    }

    fn write(&self, file: &Value) -> Result<()> {
        Ok(fs::write(self.path(), file.to_string())?)
    }

    /// The words of `mvm compose` with this file.
    fn words<'a>(path: &'a Path, words: &[&'a str]) -> Vec<&'a str> {
        let path = path.to_str().expect("a path that is text");
        [&["compose", "-f", path], words].concat()
    }

    fn compose(&self, words: &[&str]) -> Result<Output> {
        self.machines.mvm(Self::words(&self.path(), words))
    }

    /// What a command prints that succeeds, whatever it tells the user.
    fn done(&self, words: &[&str]) -> Result<String> {
        let output = self.compose(words)?;
        ensure!(output.status == 0, "{output}");
        Ok(output.stdout())
    }

    fn spawn(&self, words: &[&str]) -> Result<Running> {
        self.machines.spawn(Self::words(&self.path(), words))
    }

    /// What has happened, as `KIND NAME`, the oldest first.
    fn events(&self) -> Result<Vec<String>> {
        let lines = self.machines.mvm(["events", "--json"])?.success();
        let event = |line: &str| {
            let event: Value = serde_json::from_str(line)?;
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            Ok(format!("{} {}", word("event"), word("name")))
        };
        lines.lines().map(event).collect()
    }

    fn count(&self, event: &str) -> Result<usize> {
        let events = self.events()?;
        Ok(events.iter().filter(|one| *one == event).count())
    }
}

/// A file with the fixtures' programs at hand in each service.
fn file(services: &Value) -> Value {
    json!({
        "name": "p",
        "defaults": {
            "memory": "128M",
            "app": { "env": { "PATH": format!("{}/bin", fixture("tools")) } },
        },
        "services": services,
    })
}

fn shell(script: &str) -> Value {
    json!({ "app": { "entrypoint": ["bash", "-c", script] } })
}

/// A page with the machine's name.
const PAGE: &str =
    "mkdir /tmp/www; hostname > /tmp/www/page; exec busybox httpd -f -p 80 -h /tmp/www";

/// Goes on until it is told to end, and says so.
const SERVICE: &str = "trap 'echo bye; exit 0' TERM; echo up; exec 3<> <(:); \
    while true; do read -u 3 -t 0.1; done";

/// The example's file, reached at another port of the host.
pub fn shop(port: u16) -> Result<Value> {
    let path = fixtures_folder().join("../examples/shop.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut shop: Value = serde_json::from_slice(&text)?;
    shop["services"]["web"]["ports"] = json!([format!("{port}:8080")]);
    Ok(shop)
}

/// Orders something. Returns the number of the order.
pub fn order(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/orders");
    let answer = on_host(&format!(
        "curl -sS --fail --retry 9 --retry-all-errors -d teapot {url}"
    ));
    String::from_utf8(answer)
        .expect("a number")
        .trim()
        .to_owned()
}

/// Waits until that many have been ordered, and shipped.
pub fn await_shipped(port: u16, ordered: u32, shipped: u32) {
    let expected = json!({ "ordered": ordered, "shipped": shipped });
    until(|| {
        let url = format!("http://127.0.0.1:{port}/");
        let answer = on_host(&format!(
            "curl -sS --fail --retry 9 --retry-all-errors {url}"
        ));
        serde_json::from_slice::<Value>(&answer).is_ok_and(|counts| counts == expected)
    });
}

#[test]
fn a_shop_comes_up_survives_a_kill_and_keeps_what_is_on_its_volume() -> Result<()> {
    let port = free_port();
    let project = Project::new(&shop(port)?)?;
    let up = project.compose(&["up", "-d", "--wait"])?;
    assert_eq!((up.status, up.stdout()), (0, String::new()), "{up}");
    let events = project.events()?;
    let at = |event: &str| {
        events
            .iter()
            .position(|one| one == event)
            .context(format!("{events:?}"))
    };
    let is_ready = at("ready shop-redis")?;
    assert!(at("created shop-redis")? < is_ready, "{events:?}");
    assert!(is_ready < at("created shop-web")?, "{events:?}");
    assert!(is_ready < at("created shop-worker")?, "{events:?}");
    assert_eq!(order(port), "1");
    await_shipped(port, 1, 1);

    let pid = project.machines.inspect("shop-redis")?["pid"].to_string();
    kill_where_machines_run(&pid)?;
    let is_back = |seen: &Value| seen["restarts"] == 1 && seen["health"]["status"] == "healthy";
    project.machines.inspect_until("shop-redis", is_back)?;
    assert_eq!(order(port), "2");
    await_shipped(port, 2, 2);

    let down = project.done(&["down"])?;
    let mut removed: Vec<_> = down.lines().collect();
    assert_eq!(removed.pop(), Some("shop-redis"));
    assert_eq!(project.machines.mvm(["ps", "-aq"])?.success(), "");
    project.done(&["up", "-d", "--wait"])?;
    await_shipped(port, 2, 2);

    let down = project.done(&["down", "-v"])?;
    assert!(down.ends_with("shop-redis\nshop_data\n"), "{down}");
    project.done(&["up", "-d", "--wait"])?;
    await_shipped(port, 0, 0);
    Ok(())
}

/// Two services, of which one asks for pages; what is not answered in their network is not looked for
/// outside.
pub fn asking() -> Value {
    let services = json!({ "web": shell(PAGE), "probe": shell("exec sleep 1000") });
    let mut file = file(&services);
    file["networks"] = json!({ "default": { "internal": true } });
    file
}

/// Starts two projects of [`asking`], and sees that each reaches itself alone. `compose` does what `mvm
/// compose` does with that file, and returns its status and what it prints.
pub fn two_do_not_reach_each_other(
    compose: impl Fn(&[&str]) -> Result<(i32, String)>,
) -> Result<()> {
    let done = |words: &[&str]| {
        let (status, text) = compose(words)?;
        ensure!(status == 0, "{words:?}: {status}\n{text}");
        Ok(text)
    };
    for project in ["one", "two"] {
        done(&["-p", project, "up", "-d"])?;
    }
    let probe =
        |project: &str, script: &str| done(&["-p", project, "exec", "probe", "bash", "-c", script]);
    let page = "curl -sS --retry 9 --retry-all-errors http://web/page";
    assert_eq!(probe("one", page)?, "one-web\n");
    assert_eq!(probe("two", page)?, "two-web\n");
    let address = "python3 -c 'import socket; print(socket.gethostbyname(\"web\"))'";
    let (own, other) = (probe("one", address)?, probe("two", address)?);
    assert_ne!(own, other);
    let page = |address: &str| format!("curl -s --max-time 5 http://{}/page", address.trim());
    assert_eq!(probe("one", &page(&own))?, "one-web\n");
    let page = page(&other);
    let (status, text) = compose(&["-p", "one", "exec", "probe", "bash", "-c", &page])?;
    assert!(status != 0 && text.is_empty(), "{status} {text}");
    done(&["-p", "one", "down"]).map(drop)
}

#[test]
fn two_projects_at_once_do_not_reach_each_other() -> Result<()> {
    let project = Project::new(&asking())?;
    two_do_not_reach_each_other(|words| {
        let output = project.compose(words)?;
        Ok((output.status, output.stdout()))
    })?;
    let left = project.machines.mvm(["ps", "-q"])?.success();
    assert_eq!(left, "two-probe\ntwo-web\n");
    Ok(())
}

#[test]
fn a_service_may_be_a_whole_system() -> Result<()> {
    let curl = format!("{}/bin/curl", fixture("tools"));
    let page = [
        &curl,
        "-sS",
        "--retry",
        "30",
        "--retry-all-errors",
        "http://box/",
    ];
    let project = Project::new(&json!({
        "name": "p",
        "services": {
            "box": { "memory": "512M", "system": { "path": fixture("system") }, "ready": "notify" },
            "probe": {
                "memory": "96M",
                "dependsOn": { "box": "healthy" },
                "app": { "entrypoint": page },
            },
        },
    }))?;
    project.done(&["up", "-d", "--wait"])?;
    until(|| {
        let said = project.machines.mvm(["logs", "p-probe"]);
        said.is_ok_and(|said| said.stdout() == "hello from a system\n")
    });
    let state = ["exec", "box", "systemctl", "is-active", "web"];
    assert_eq!(project.done(&state)?, "active\n");
    project.done(&["down"]).map(drop)
}

#[test]
fn those_that_need_no_other_are_started_at_once() -> Result<()> {
    // Each is healthy only while all others run: one after the other none would ever be.
    let names = ["a", "b", "c", "d"];
    let check = "for name in a b c d; do (exec 3<> /dev/tcp/$name/80) || exit 1; done";
    let services = names.iter().map(|name| {
        let mut service = shell(PAGE);
        let health =
            json!({ "exec": ["bash", "-c", check], "interval": "1s", "startPeriod": "170s" });
        service["healthcheck"] = health;
        ((*name).to_owned(), service)
    });
    let project = Project::new(&file(&services.collect::<serde_json::Map<_, _>>().into()))?;
    project.done(&["up", "-d", "--wait"])?;
    let events = project.events()?;
    let first = events.iter().position(|event| event.starts_with("ready "));
    let before = &events[..first.context("none is ready")?];
    let started = before
        .iter()
        .filter(|event| event.starts_with("started "))
        .count();
    assert_eq!(started, names.len(), "{events:?}");
    Ok(())
}

#[test]
fn ctrl_c_ends_those_first_that_need_others() -> Result<()> {
    let mut services = json!({ "a": shell(SERVICE), "b": shell(SERVICE), "c": shell(SERVICE) });
    services["b"]["dependsOn"] = json!(["a"]);
    services["c"]["dependsOn"] = json!(["b"]);
    let project = Project::new(&file(&services))?;
    let mut up = project.spawn(&["up"])?;
    let said = up.wait_for("c | up\n")?;
    assert_eq!(said, "a | up\nb | up\nc | up\n");
    up.signal(Signal::INT)?;
    let output = up.finish()?;
    assert_eq!(output.status, 0, "{output}");
    assert!(
        output.stdout().ends_with("c | bye\nb | bye\na | bye\n"),
        "{output}"
    );
    let events = project.events()?;
    let died: Vec<_> = events
        .iter()
        .filter(|event| event.starts_with("died "))
        .collect();
    assert_eq!(died, ["died p-c", "died p-b", "died p-a"]);
    // They are stopped, not gone.
    let all = project.done(&["ps", "-aq"])?;
    assert_eq!(all, "p-a\np-b\np-c\n");
    Ok(())
}

#[test]
fn a_second_ctrl_c_kills_what_does_not_end() -> Result<()> {
    let deaf = "trap '' TERM; echo up; while true; do sleep 1; done";
    let mut service = shell(deaf);
    service["app"]["stopTimeout"] = json!("1h");
    let project = Project::new(&file(&json!({ "deaf": service })))?;
    let mut up = project.spawn(&["up"])?;
    up.wait_for("deaf | up\n")?;
    up.signal(Signal::INT)?;
    // Once it is being stopped; a signal that comes together with another one is one.
    let stopped = || project.machines.state();
    let mark = AsRef::<Path>::as_ref(&stopped()).join("machines/p-deaf/stopped.json");
    until(|| mark.exists());
    thread::sleep(Duration::from_millis(500));
    up.signal(Signal::INT)?;
    let output = up.finish()?;
    assert_eq!(output.status, 130, "{output}");
    assert_eq!(project.machines.mvm(["ps", "-q"])?.success(), "");
    Ok(())
}

#[test]
fn how_a_service_ends_is_told_with_its_last_words() -> Result<()> {
    let mut flaky = shell("echo working; exit 4");
    flaky["restart"] = json!({ "policy": "on-failure", "maxRetries": 1 });
    let services = json!({ "flaky": flaky, "web": shell("exec sleep 1000") });
    let project = Project::new(&file(&services))?;
    let output = project.compose(&["up", "--exit-code-from", "flaky"])?;
    assert_eq!(output.status, 4, "{output}");
    let errors = output.stderr();
    let again = "p-flaky has ended with status 4; it is started again\n\
        its program said last:\n  working\n";
    assert_eq!(errors.matches(again).count(), 1, "{output}");
    let end = "p-flaky has ended with status 4\nits program said last:\n  working\n";
    assert_eq!(errors.matches(end).count(), 1, "{output}");
    assert_eq!(
        output.stdout().matches("flaky | working\n").count(),
        2,
        "{output}"
    );
    assert_eq!(project.machines.mvm(["ps", "-q"])?.success(), "");

    let mut job = shell("echo working; exit 5");
    job["healthcheck"] = json!({ "exec": ["true"], "interval": "1h" });
    let mut web = shell("exec sleep 1000");
    web["dependsOn"] = json!({ "job": "healthy" });
    project.write(&file(&json!({ "job": job, "web": web })))?;
    let output = project.compose(&["up", "-d", "--wait"])?;
    assert_eq!(output.status, 125, "{output}");
    let errors = output.stderr();
    assert!(
        errors.contains("p-job: has ended with status 5\n"),
        "{output}"
    );
    assert!(errors.contains("said last:\n  working\n"), "{output}");
    assert!(
        errors.contains("p-web: was not started: job has failed\n"),
        "{output}"
    );
    Ok(())
}

#[test]
fn machines_follow_their_file_and_no_others_are_touched() -> Result<()> {
    let mut services = json!({ "web": shell(PAGE), "probe": shell("exec sleep 1000") });
    services["web"]["scale"] = json!(2);
    let project = Project::new(&file(&services))?;
    project.done(&["up", "-d"])?;
    let seen = "import socket; print(len({one[4] for one in socket.getaddrinfo(\"web\", 80)}))";
    let exec = ["exec", "probe", "python3", "-c", seen];
    // One name for both. Each address comes once for each kind of socket.
    let count = project.done(&exec)?;
    assert_eq!(count, "2\n");

    // What comes in here goes to the program, without a flag.
    let echo = "read line; echo $line";
    let mut exec = project.spawn(&["exec", "-T", "probe", "bash", "-c", echo])?;
    exec.write("heard\n")?;
    assert_eq!(exec.finish()?.success(), "heard\n");

    project.done(&["up", "-d", "--scale", "web=1"])?;
    assert_eq!(project.done(&["ps", "-aq"])?, "p-probe\np-web\n");
    services["probe"]["app"]["env"] = json!({ "A": "b" });
    services["web"]["scale"] = json!(1);
    project.write(&file(&services))?;
    let up = project.compose(&["up", "-d"])?;
    let lines = up.stderr();
    assert!(lines.contains("p-probe: recreated\n"), "{up}");
    assert!(lines.contains("p-web: runs\n"), "{up}");
    for (event, count) in [
        ("started p-web", 1),
        ("created p-probe", 2),
        ("removed p-web-2", 1),
    ] {
        assert_eq!(project.count(event)?, count, "{event}");
    }

    let left = services.as_object_mut().context("an object")?;
    left.remove("probe");
    project.write(&file(&services))?;
    let up = project.compose(&["up", "-d"])?;
    assert!(
        up.stderr()
            .contains("does not have: p-probe; --remove-orphans"),
        "{up}"
    );
    project.done(&["up", "-d", "--remove-orphans"])?;
    assert_eq!(project.done(&["ps", "-q"])?, "p-web\n");
    project.done(&["restart"])?;
    assert_eq!(project.count("started p-web")?, 2);
    assert_eq!(project.done(&["stop"])?, "p-web\n");
    assert_eq!(project.done(&["ps", "-q"])?, "");
    project.done(&["start", "web"])?;
    assert_eq!(project.count("started p-web")?, 3);
    Ok(())
}

#[test]
fn what_must_be_completed_is_before_others_start() -> Result<()> {
    let mut services = json!({
        "init": shell("echo made > /data/file"),
        "web": shell("cat /data/file; echo $GREETING"),
    });
    services["web"]["app"]["env"] = json!({ "GREETING": "${GREETING:-hello}, web" });
    services["web"]["dependsOn"] = json!({ "init": "completed" });
    for name in ["init", "web"] {
        services[name]["volumes"] = json!([{ "name": "data", "mountPoint": "/data" }]);
    }
    let mut file = file(&services);
    file["volumes"] = json!({ "data": { "size": "16M" } });
    let project = Project::new(&file)?;
    let up = project.compose(&["up"])?;
    assert_eq!(
        (up.status, up.stdout()),
        (0, "web  | made\nweb  | hello, web\n".into()),
        "{up}"
    );
    let script = "cat file; hostname; exit 3";
    let flags = ["run", "--rm", "-T", "-w", "/data", "--entrypoint", "bash"];
    let run = project.compose(&[&flags[..], &["web", "-c", script]].concat())?;
    ensure!(run.status == 3, "{run}");
    assert_eq!(run.stdout(), "made\np-web-run\n");
    assert_eq!(project.count("created p-init")?, 1);
    assert_eq!(project.count("started p-init")?, 2);
    let logs = project.done(&["logs", "web"])?;
    assert_eq!(logs, "web | made\nweb | hello, web\n");
    Ok(())
}

#[test]
fn a_machine_of_one_command_is_as_its_flags_say_and_goes_with_the_project() -> Result<()> {
    let port = free_port();
    let mut services = json!({ "web": shell(PAGE), "db": shell("exec sleep 1000") });
    services["web"]["dependsOn"] = json!(["db"]);
    services["web"]["ports"] = json!([":80"]);
    services["web"]["restart"] = json!("always");
    let mut file = file(&services);
    file["volumes"] = json!({ "data": { "size": "16M" } });
    let project = Project::new(&file)?;
    let publish = format!("{port}:80");
    let flags = [
        "run",
        "-d",
        "--no-deps",
        "-p",
        &publish,
        "--use-aliases",
        "-l",
        "once",
    ];
    assert_eq!(
        project.done(&[&flags[..], &["web"]].concat())?,
        "p-web-run\n"
    );
    let url = format!("curl -sS --fail --retry 9 --retry-all-errors http://127.0.0.1:{port}/page");
    assert_eq!(on_host(&url), b"p-web-run\n");
    // What it needs is not there, as was asked for, and it is no machine of the service's.
    assert_eq!(project.done(&["ps", "-q"])?, "p-web-run\n");
    let ports = project.machines.mvm(["port", "p-web-run"])?.success();
    assert_eq!(ports, format!("80/tcp -> 127.0.0.1:{port}\n"));

    fs::write(project.folder.path().join("file"), "shared\n")?;
    let share = format!("{}:/srv:ro", project.folder.path().display());
    let script = "id -u; id -g; echo $A; cat file; python3 -c \"$FIND\"; touch /data/file /srv/no";
    // The name of another machine is asked for, since this one has none in the network.
    let find = "FIND=import socket; print(len(set(socket.gethostbyname_ex(\"web\")[2])))";
    let flags = format!("run -T -v {share} -v data:/data -e A=b -u 0:8 -w /srv --entrypoint bash");
    let mut command: Vec<_> = flags.split(' ').collect();
    command.extend(["--name", "once", "-e", find, "web", "-c", script]);
    let output = project.compose(&command)?;
    assert_eq!(output.stdout(), "0\n8\nb\nshared\n1\n", "{output}");
    assert_eq!(output.status, 1, "{output}");
    // The volume is the project's, and what was needed runs now.
    let volumes = project.machines.mvm(["volume", "ls", "-q"])?.success();
    assert_eq!(volumes, "p_data\n");
    assert_eq!(project.done(&["ps", "-aq"])?, "p-db\np-web-run\n");

    let ended = [
        "run",
        "-d",
        "--rm",
        "--no-deps",
        "--service-ports",
        "--entrypoint",
        "true",
        "web",
    ];
    assert_eq!(project.done(&ended)?, "p-web-run-2\n");
    until(|| {
        project
            .done(&["ps", "-aq"])
            .is_ok_and(|names| names == "p-db\np-web-run\n")
    });
    let up = project.compose(&["up", "-d"])?;
    assert!(!up.stderr().contains("does not have"), "{up}");
    let down = project.done(&["down", "-v"])?;
    assert!(down.starts_with("p-web-run\n"), "{down}");
    assert!(down.ends_with("p_data\n"), "{down}");
    assert_eq!(project.done(&["ps", "-aq"])?, "");
    Ok(())
}

#[test]
fn files_over_each_other_and_those_they_include_are_one_project() -> Result<()> {
    let mut main = file(&json!({ "web": shell("cat /conf/word; echo $A $B") }));
    main["include"] = json!(["db/compose.json"]);
    main["services"]["web"]["dependsOn"] = json!({ "db": "completed" });
    main["services"]["web"]["app"]["env"] = json!({ "A": "main", "B": "main" });
    main["services"]["web"]["shares"] = json!([{ "source": "conf", "mountPoint": "/conf" }]);
    let project = Project::new(&main)?;
    let folder = project.folder.path();
    for (path, word) in [("conf", "own"), ("db/conf", "its own")] {
        fs::create_dir_all(folder.join(path))?;
        fs::write(folder.join(path).join("word"), format!("{word}\n"))?;
    }
    let mut db = file(&json!({ "db": shell("cat /conf/word; echo $OF_DB") }));
    db["services"]["db"]["app"]["env"] = json!({ "OF_DB": "${OF_DB}" });
    db["services"]["db"]["shares"] = json!([{ "source": "conf", "mountPoint": "/conf" }]);
    fs::write(folder.join("db/compose.json"), db.to_string())?;
    fs::write(folder.join("db/.env"), "OF_DB=there\n")?;
    let over = json!({ "services": { "web": { "app": { "env": { "B": "over" } } } } });
    let over_path = folder.join("over.json");
    fs::write(&over_path, over.to_string())?;

    let flags = ["-f", over_path.to_str().context("a path")?, "up"];
    let up = project.compose(&flags)?;
    let expected = "db  | its own\ndb  | there\nweb | own\nweb | main over\n";
    assert_eq!((up.status, up.stdout()), (0, expected.into()), "{up}");
    Ok(())
}

#[test]
fn what_has_no_check_is_waited_for_until_it_runs() -> Result<()> {
    let project = Project::new(&file(&json!({ "web": shell("echo up; exec sleep 1000") })))?;
    let up = project.compose(&["up", "-d", "--wait", "--wait-timeout", "60"])?;
    assert_eq!(up.status, 0, "{up}");
    assert!(up.stderr().contains("web: ready\n"), "{up}");
    assert_eq!(project.done(&["ps", "-q"])?, "p-web\n");
    Ok(())
}
