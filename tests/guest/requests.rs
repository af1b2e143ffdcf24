//! What a machine asks of its host: of its file server, counted by FUSE's names, by leaving the guest, and by system calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use mvm_test::{Machines, closure, fixture};
use serde_json::{Value, json};

use crate::{mvm_itself, shell, until, where_machines_run};

type Counts = BTreeMap<String, u64>;

/// What something counts, and by how much more a start may: interrupts come when they come.
type Known<'a> = &'a [(&'a str, u64, u64)];

/// Nothing was counted more often than is known.
#[track_caller]
fn assert_no_more(what: &str, counted: &Counts, known: Known<'_>) {
    for (name, count) in counted {
        let entry = known.iter().find(|(known, ..)| known == name);
        let most = entry.map_or(0, |(_, count, margin)| count + margin);
        assert!(
            *count <= most,
            "{what}: {name} is counted {count} times, and {most} at most is known. If that is what it has to cost, \
             change its constant in tests/guest/requests.rs; all that was counted: {counted:?}"
        );
    }
}

/// All requests but READ of a machine that runs `bash -c ls` so often, and has its store in that way.
pub fn requests_but_reads(times: u32, data: &str) -> Result<Counts> {
    let script = format!("for _ in $(seq {times}); do bash -c ls > /dev/null || exit; done");
    let machine = shell("requests", &script).set("/store/data", data);
    let output = machine.count_requests().run()?;
    output.success();
    let mut requests = output.requests("store").clone();
    requests.remove("READ");
    Ok(requests)
}

#[test]
fn a_program_that_ran_before_starts_without_a_request() -> Result<()> {
    let twice = requests_but_reads(2, "plain")?;
    let twelve_times = requests_but_reads(12, "plain")?;
    assert!(twice["LOOKUP"] > 0, "{twice:?}");
    assert_eq!(twice, twelve_times);
    Ok(())
}

/// How far the guest reads ahead depends on how soon it is answered: of the same start there are 13 to 43.
const READ_MARGIN: u64 = 20;

/// Requests of the start of a shell that says one word.
const START: Known<'_> = &[
    ("FLUSH", 1, 0),
    ("GETATTR", 1, 0),
    ("INIT", 1, 0),
    ("LOOKUP", 21, 2),
    ("OPEN", 1, 0),
    ("READ", 43, READ_MARGIN),
    ("READLINK", 2, 0),
];

#[test]
fn a_start_asks_the_file_server_no_more_often_than_it_has_to() -> Result<()> {
    let output = shell("start", "echo word").count_requests().run()?;
    assert_eq!(output.success(), "word\n");
    assert_no_more("requests of a start", output.requests("store"), START);
    Ok(())
}

/// How many names an answer to READDIRPLUS has room for, at least: mvm's kernel asks for four pages at once.
const NAMES_MIN: u64 = 88;
/// Of a walk, what the program that walks costs.
const WALKER: Known<'_> = &[
    ("FLUSH", 1, 0),
    ("GETATTR", 1, 0),
    ("INIT", 1, 0),
    ("LOOKUP", 30, 2),
    ("OPEN", 1, 0),
    ("OPENDIR", 1, 0),
    ("READ", 64, READ_MARGIN),
    ("READLINK", 5, 0),
];

/// The closure of these has 4,000 nodes and more.
const LARGE: [&str; 3] = ["tools", "postgresql", "system"];

#[test]
fn a_cold_walk_asks_for_folders_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("paths");
    let paths: Vec<_> = LARGE
        .iter()
        .map(|name| closure(&fixture(name)))
        .collect::<Result<_>>()?;
    let paths: BTreeSet<_> = paths.into_iter().flatten().collect();
    fs::write(&list, Vec::from_iter(paths).join("\n") + "\n")?;
    let script = "find /nix/store | wc -l; find /nix/store -type d | wc -l";
    let machine = shell("walk", script).set("/store/closure", list.to_string_lossy());
    let output = machine.count_requests().run()?;
    let said = output.success();
    let mut numbers = said.split_whitespace().map(str::parse);
    let mut number = || numbers.next().context("two numbers")?.context("a number");
    let (nodes, folders): (u64, u64) = (number()?, number()?);
    assert!(nodes > 4000 && folders > 500, "{said}");
    let mut requests = output.requests("store").clone();
    let listed = requests.remove("READDIRPLUS").context("a walk lists")?;
    let most = folders + nodes / NAMES_MIN;
    assert!(
        listed <= most,
        "{listed} requests list {folders} folders with {nodes} nodes, and {most} at most are known: {requests:?}"
    );
    assert_no_more("requests of a walk", &requests, WALKER);
    Ok(())
}

/// Exits of a start to mvm: by the kernel that finds its devices, by init, and by a program that says one word.
const PHASES: Known<'_> = &[
    ("mvm", 0, 0),
    ("kernel", 393, 20),
    ("init", 46, 10),
    ("app", 96, 60),
];

#[test]
fn a_start_leaves_the_guest_no_more_often_than_it_has_to() -> Result<()> {
    let machine = shell("timing", "echo word");
    let output = machine.flag("--timing=json").run()?;
    assert_eq!((output.status, &*output.stdout()), (0, "word\n"));
    let told = output.stderr();
    let told: Value = serde_json::from_str(told.lines().last().unwrap_or_default())?;
    let phases = told["phases"].as_array().context("phases")?;
    let names: Vec<_> = phases.iter().map(|phase| &phase["phase"]).collect();
    assert_eq!(names, ["mvm", "kernel", "init", "app"]);
    let mut counted = Counts::new();
    for phase in phases {
        assert!(phase["ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{told}");
        let exits = phase["exits"].as_u64().context("a count")?;
        counted.insert(phase["phase"].as_str().unwrap_or_default().into(), exits);
    }
    assert_no_more("exits of a start", &counted, PHASES);
    Ok(())
}

/// The same by their kinds, until that program waits.
const KINDS: Known<'_> = &[
    ("interruption", 1, 2),
    ("memory-read", 187, 40),
    ("memory-write", 233, 40),
    ("port-read", 26, 10),
    ("port-write", 50, 10),
];

#[test]
fn each_kind_of_exit_of_a_start_is_as_rare_as_it_can_be() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("kinds", "echo word; exec sleep 1000"))?;
    until(|| {
        machines
            .mvm(["logs", "kinds"])
            .is_ok_and(|logs| logs.stdout() == "word\n")
    });
    let text = machines.mvm(["metrics", "kinds"])?.success();
    let mut counted = Counts::new();
    for line in text.lines() {
        let Some(line) =
            line.strip_prefix("mvm_vcpu_exits_total{machine=\"kinds\",vcpu=\"0\",reason=\"")
        else {
            continue;
        };
        let (reason, count) = line.split_once("\"} ").context("a count")?;
        counted.insert(reason.into(), count.parse()?);
    }
    assert!(counted["port-write"] > 0, "{text}");
    assert_no_more("exits of a start", &counted, KINDS);
    Ok(())
}

/// System calls of a monitor from its execution to the end of a program that says one word, all of its threads'. Four
/// starts in turn differ by four: in what wakes a thread, and in how much memory is taken back at once.
const SYSTEM_CALLS: Known<'_> = &[("total", 1978, 40)];

#[test]
fn a_start_makes_no_more_system_calls_than_it_has_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.json");
    let busybox = format!("{}/bin/busybox", fixture("busybox"));
    let app = json!({ "name": "calls", "memory": "128M", "app": { "entrypoint": [busybox, "echo", "word"] } });
    fs::write(&file, app.to_string())?;
    let strace = format!("{}/bin/strace", fixture("strace"));
    let (mvm, file) = (mvm_itself(), file.display().to_string());
    let counting = [
        &strace,
        "--follow-forks",
        "--summary-only",
        "--summary-columns=calls,name",
    ];
    let running = [&*mvm.to_string_lossy(), "--accel", "kvm", "run", &file];
    // Where there is no hardware KVM, the tests' first machine has started the emulated host.
    let output = where_machines_run(&[&counting[..], &running[..]].concat()).output()?;
    let table = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (&*output.stdout, output.status.code()),
        (&b"word\n"[..], Some(0)),
        "{table}"
    );
    let total = table
        .lines()
        .find_map(|line| line.trim().strip_suffix(" total"));
    let total = total
        .with_context(|| format!("no sum in:\n{table}"))?
        .trim()
        .parse()?;
    assert_no_more(
        &format!("system calls of a start:\n{table}"),
        &[("total".into(), total)].into(),
        SYSTEM_CALLS,
    );
    Ok(())
}
