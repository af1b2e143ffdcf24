//! Limits that the host's kernel keeps: they hold, they are told, and nothing of them is left.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mvm_test::{Machines, Output};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{shell, where_machines_run};

/// Uses all of its processor, and ends when it is told to.
const BUSY: &str = "trap 'exit 0' TERM; while true; do :; done";

fn ok(output: &Output) {
    assert_eq!(
        (output.status, output.stderr()),
        (0, String::new()),
        "{output}"
    );
}

/// Whether a folder is there.
fn is_there(folder: &str) -> Result<bool> {
    let status = where_machines_run(&["test", "-d", folder]).status()?;
    Ok(status.success())
}

/// A disk of the host: a file as a loop device.
struct Disk(String);

impl Disk {
    fn of(file: &Path) -> Result<Self> {
        let path = file.to_string_lossy();
        let command = ["losetup", "--find", "--show", &path];
        let output = where_machines_run(&command).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no loop device: {error}");
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut detach = where_machines_run(&["losetup", "--detach", &self.0]);
        let _ = detach.status();
    }
}

#[test]
fn a_quota_throttles_a_busy_guest() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("busy", BUSY).set("/limits/cpu", "50%"))?;
    let throttled = |facts: &Value| facts["cgroup"]["cpuPeriodsThrottled"].as_u64() > Some(0);
    let facts = machines.inspect_until("busy", throttled)?;
    assert_eq!(facts["app"]["limits"], json!({ "cpu": "50%" }));
    ok(&machines.mvm(["stop", "busy"])?);
    // With the machine, its group goes too.
    assert_eq!(machines.inspect("busy")?["cgroup"], Value::Null);
    Ok(())
}

#[test]
fn limits_of_processes_hold_for_all_that_run_as_the_program() -> Result<()> {
    const TELL: &str = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -l";
    let limits = json!({ "nofile": "300:400", "core": 0 });
    let of_both = "300\n400\n0\nunlimited\n";
    let machine = |name| {
        shell(name, TELL)
            .user("nobody")
            .set("/app/ulimits", limits.clone())
    };
    let output = machine("told").flag("--ulimit").flag("memlock=-1").run()?;
    assert_eq!(output.success(), of_both);

    let machines = Machines::new()?;
    let check = json!({
        "exec": ["bash", "-c", "test $(ulimit -n) = 300"], "interval": "100ms", "retries": 1000,
    });
    let machine = shell("asked", "sleep 1000").set("/app/ulimits", limits.clone());
    let machine = machine.set("/healthcheck", check).flag("--wait");
    machines.start(machine.flag("--ulimit").flag("memlock=unlimited"))?;
    let output = machines.mvm(["exec", "asked", "bash", "-c", TELL])?;
    assert_eq!(output.success(), of_both);
    ok(&machines.mvm(["kill", "asked"])?);
    Ok(())
}

#[test]
fn a_part_of_a_processor_on_the_command_line_is_a_quota() -> Result<()> {
    let machines = Machines::new()?;
    let half = shell("half", "nproc; read").flag("--cpus").flag("1.5");
    machines.start(half.set("/app/tty", true))?;
    let facts = machines.inspect("half")?;
    assert_eq!(facts["app"]["vcpus"], 2);
    assert_eq!(facts["app"]["limits"]["cpu"], "150%");
    assert!(
        facts["cgroup"]["cpuPeriods"].as_u64().is_some(),
        "{facts:#}"
    );
    ok(&machines.mvm(["kill", "half"])?);
    Ok(())
}

#[test]
fn a_memory_limit_holds_guest_and_monitor() -> Result<()> {
    let machines = Machines::new()?;
    let machine = shell("small", BUSY).memory_mib(64);
    machines.start(
        machine
            .set("/limits/memory", "256M")
            .set("/limits/pids", 100),
    )?;
    let facts = machines.inspect("small")?;
    let number = |place: &str| {
        facts
            .pointer(place)
            .and_then(Value::as_u64)
            .context(place.to_owned())
    };
    assert_eq!(number("/cgroup/memoryMaxBytes")?, 256 << 20);
    assert_eq!(number("/cgroup/pidsMax")?, 100);
    assert!((1..100).contains(&number("/cgroup/pids")?), "{facts:#}");
    let used = number("/memory/guestBytes")?;
    assert!((1 << 20..64 << 20).contains(&used), "{facts:#}");
    // What the limit is measured by is more than the monitor ever takes.
    assert!(
        number("/memory/overheadBytes")? < number("/memory/overheadMaxBytes")?,
        "{facts:#}"
    );
    ok(&machines.mvm(["rm", "--force", "small"])?);
    Ok(())
}

#[test]
fn a_monitor_that_the_host_kills_is_told_and_started_again() -> Result<()> {
    let machines = Machines::new()?;
    let machine = shell("victim", BUSY).memory_mib(64);
    let machine = machine.set("/limits/memory", "256M");
    machines.start(machine.flag("--restart=always"))?;
    let group = machines.inspect("victim")?["cgroup"]["path"].clone();
    let group = group.as_str().context("it has a group")?;
    // Less than it has already.
    let script = format!("echo 4M > {group}/memory.max");
    where_machines_run(&["sh", "-c", &script]).status()?;
    machines.inspect_until("victim", |facts| facts["restarts"] == 1)?;
    let filter = ["events", "--json", "--filter", "event=oom"];
    let events = machines.mvm(filter)?.success();
    let hosts = events.matches(r#""event":"oom","kernel":"host""#).count();
    assert_eq!(hosts, 1, "{events}");
    ok(&machines.mvm(["rm", "--force", "victim"])?);
    Ok(())
}

#[test]
fn no_more_files_than_allowed_are_open() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("frugal", BUSY).set("/limits/nofile", 200))?;
    let pid = machines.inspect("frugal")?["pid"].clone();
    let limits = format!("/proc/{pid}/limits");
    let output = where_machines_run(&["grep", "Max open files", &limits]).output()?;
    let words = String::from_utf8(output.stdout)?;
    let numbers: Vec<_> = words.split_whitespace().skip(3).collect();
    assert_eq!(numbers, ["200", "200", "files"], "{words}");
    ok(&machines.mvm(["rm", "--force", "frugal"])?);

    let much = machines.own(shell("much", "true").set("/limits/nofile", i32::MAX & !63));
    let output = much.run()?;
    let why = output.stderr();
    assert_eq!(output.status, 125, "{output}");
    assert!(
        why.starts_with("mvm: limits.nofile: cannot have 2147483584"),
        "{why}"
    );
    Ok(())
}

#[test]
fn a_disk_is_written_no_faster_than_allowed() -> Result<()> {
    const RATE: u64 = 1 << 20;
    let (machines, folder) = (Machines::new()?, tempdir()?);
    let file = folder.path().join("disk");
    let volume = |image| json!({ "image": image, "mountPoint": "/data", "size": "64M" });
    let script = "while true; do dd if=/dev/zero of=/data/file bs=64k count=50 conv=fsync; done";
    // The first machine makes its file system.
    let first = machines.own(shell("first", "true").set("/volumes/0", volume(file.as_path())));
    first.run()?.success();
    let disk = Disk::of(&file)?;
    let machine = shell("writer", script)
        .set("/volumes/0", volume(Path::new(&disk.0)))
        .set("/limits/io", json!({ &disk.0: { "writeBps": "1M" } }));
    machines.start(machine)?;
    let start = Instant::now();
    let written = |facts: &Value| facts["cgroup"]["ioWriteBytes"].as_u64().unwrap_or(0);
    let facts = machines.inspect_until("writer", |facts| written(facts) > 10 * RATE)?;
    // What has begun is counted before it has waited: a request of a few hundred KiB.
    let most = RATE * (start.elapsed().as_secs() + 5);
    assert!(written(&facts) < most, "{facts:#}");
    // What the kernel writes later for somebody it knows by his memory.
    assert!(facts["cgroup"]["memoryBytes"].is_u64(), "{facts:#}");
    ok(&machines.mvm(["rm", "--force", "writer"])?);
    Ok(())
}

#[test]
fn no_more_threads_than_allowed_are_started() -> Result<()> {
    let machines = Machines::new()?;
    let machine = machines.own(shell("lonely", "true").set("/limits/pids", 2));
    let output = machine.run()?;
    assert_eq!(output.status, 125, "{output}");
    assert!(output.stderr().contains("cannot start a"), "{output}");
    Ok(())
}

#[test]
fn what_a_killed_machine_leaves_is_pruned() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("victim", BUSY).set("/limits/pids", 200))?;
    let group = machines.inspect("victim")?["cgroup"]["path"].clone();
    let group = group.as_str().context("it has a group")?;
    assert!(is_there(group)?);
    ok(&machines.mvm(["kill", "victim"])?);
    ok(&machines.mvm(["prune"])?);
    assert!(!is_there(group)?);
    Ok(())
}

#[test]
fn a_limit_that_cannot_be_kept_is_an_error() -> Result<()> {
    let machines = Machines::new()?;
    let nowhere = shell("nowhere", "true").set("/limits/cpus", "4000");
    let output = machines.own(nowhere).run()?;
    assert_eq!(output.status, 125, "{output}");
    let words = output.stderr();
    assert!(
        words.starts_with("mvm: limits.cpus: cannot write \"4000\" to "),
        "{words}"
    );
    Ok(())
}
