//! What is told of machines that run: their processes, what they use, what they have done.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use mvm_test::{Machines, Signal};
use serde_json::{Value, json};

use crate::{shell, until};

fn machines(name: &str, script: &str) -> Result<Machines> {
    let machines = Machines::new()?;
    machines.start(shell(name, script))?;
    Ok(machines)
}

fn json(machines: &Machines, arguments: &[&str]) -> Result<Value> {
    let output = machines.mvm(arguments)?;
    assert_eq!((output.status, output.stderr()), (0, String::new()));
    serde_json::from_slice(&output.stdout).with_context(|| output.to_string())
}

#[test]
fn the_processes_of_a_machine_are_told_without_its_help() -> Result<()> {
    let machines = machines("processes", "exec sleep 1234")?;
    let other = machines.spawn(["exec", "-u", "1000", "processes", "sleep", "4321"])?;
    let sleeping = || {
        let told = json(&machines, &["top", "--json", "processes"])?;
        let told = told.as_array().context("a list")?.iter().map(|process| {
            let command = process["command"].as_str().unwrap_or_default();
            (command.to_owned(), process["uid"].as_i64().unwrap_or(-1))
        });
        let sleeping = told.filter(|(command, _)| command.starts_with("sleep "));
        anyhow::Ok(sleeping.collect::<Vec<_>>())
    };
    let mut told = Vec::new();
    until(|| {
        told = sleeping().expect("processes");
        told.len() == 2
    });
    let expected = [
        ("sleep 1234".to_owned(), 0),
        ("sleep 4321".to_owned(), 1000),
    ];
    assert_eq!(told, expected);
    let table = machines.mvm(["top", "processes"])?.stdout();
    let head = table.lines().next().unwrap_or_default();
    let heads: Vec<_> = head.split_whitespace().collect();
    let expected = "PID PARENT UID STATE THREADS TIME MEMORY COMMAND";
    assert_eq!(heads.join(" "), expected);
    other.signal(Signal::TERM)?;
    other.finish()?;
    Ok(())
}

#[test]
fn what_a_machine_uses_is_told_once_or_again_and_again() -> Result<()> {
    let machines = machines("uses", "while true; do :; done")?;
    let rows = json(&machines, &["stats", "--no-stream", "--json"])?;
    let row = &rows[0];
    assert_eq!(row["name"], "uses");
    let number = |key: &str| row[key].as_u64().with_context(|| format!("{key} in {row}"));
    assert!(
        row["cpuPercent"].as_f64().context("a share")? > 0.0,
        "{row}"
    );
    assert_eq!(number("processes")?, 2);
    let (used, total) = (number("memoryUsedBytes")?, number("memoryTotalBytes")?);
    assert!(used > 0 && used < total && total <= 128 << 20, "{row}");
    let (guest, resident) = (number("guestResidentBytes")?, number("residentBytes")?);
    assert!(guest > 0 && guest < resident, "{row}");
    let overhead = number("overheadBytes")?;
    assert!(overhead > 0 && overhead < 64 << 20, "{row}");
    assert!(number("shareBytes")? > 0, "{row}");

    let mut lines = machines.spawn(["stats", "--json", "uses"])?;
    for _ in 0..2 {
        lines.wait_for("{\"name\":\"uses\",\"running\":true,\"cpuPercent\":")?;
        lines.wait_for("}\n")?;
    }
    lines.signal(Signal::INT)?;
    lines.finish()?;

    machines.mvm(["pause", "uses"])?;
    let rows = json(&machines, &["stats", "--no-stream", "--json", "uses"])?;
    assert_eq!(rows[0]["memoryUsedBytes"], Value::Null);
    assert_eq!(rows[0]["processes"], Value::Null);
    assert!(rows[0]["residentBytes"].as_u64() > Some(0));

    // A name that comes twice is one machine.
    let killed = machines.mvm(["kill", "uses", "uses"])?;
    assert_eq!(killed.success(), "uses\n");
    let rows = json(&machines, &["stats", "--no-stream", "--json", "uses"])?;
    let row = (&rows[0]["running"], &rows[0]["residentBytes"]);
    assert_eq!(row, (&json!(false), &json!(0)));
    let inspected = machines.mvm(["inspect", "uses", "none"])?;
    let missing = "mvm: there is no machine none; `mvm ps -a` lists all\n";
    assert_eq!((inspected.status, inspected.stderr()), (1, missing.into()));
    let told: Value = serde_json::from_slice(&inspected.stdout)?;
    assert_eq!(told[0]["name"], "uses");
    let said = machines.mvm(["logs", "none", "uses"])?;
    assert_eq!((said.status, said.stderr()), (1, missing.into()));
    Ok(())
}

#[test]
fn metrics_are_in_the_format_and_of_all_that_run() -> Result<()> {
    let machines = machines("one", "exec sleep 1000")?;
    machines.start(shell("two", "exec sleep 1000"))?;
    let output = machines.mvm(["metrics"])?;
    assert_eq!((output.status, output.stderr()), (0, String::new()));
    let text = output.stdout();
    let families = families(&text)?;
    for name in [
        "mvm_machine",
        "mvm_vcpu_exits",
        "mvm_fuse_requests",
        "mvm_overhead_memory_bytes",
    ] {
        assert!(families.contains(name), "{name} is not in:\n{text}");
    }
    for line in [
        "mvm_vcpus{machine=\"one\"} 1\n",
        "mvm_vcpus{machine=\"two\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    let value = |text: &str, start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        value.with_context(|| format!("{start} is not in:\n{text}"))
    };
    let lookups = "mvm_fuse_requests_total{machine=\"one\",share=\"store\",request=\"LOOKUP\"}";
    let before = value(&text, lookups)?;
    assert_eq!(
        machines
            .mvm(["exec", "one", "head", "-c1", "/proc/version"])?
            .status,
        0
    );
    let after = machines.mvm(["metrics", "one"])?.stdout();
    assert!(value(&after, lookups)? > before, "{after}");
    assert!(!after.contains("machine=\"two\""), "{after}");
    let refused = machines.mvm(["metrics", "three"])?;
    assert_eq!((refused.status, refused.stdout()), (125, String::new()));
    Ok(())
}

#[test]
fn bytes_of_volumes_are_told() -> Result<()> {
    let machines = Machines::new()?;
    let volume = json!({ "name": "data", "mountPoint": "/data", "size": "64M" });
    let script = "head -c 1048576 /dev/zero >/data/file; sync; echo done; exec sleep 1000";
    machines.start(shell("volume", script).set("/volumes/0", volume))?;
    machines.logs_until("volume", |said| said == "done\n")?;
    let rows = json(&machines, &["stats", "--no-stream", "--json", "volume"])?;
    assert!(rows[0]["diskReadBytes"].as_u64() > Some(0), "{rows}");
    assert!(
        rows[0]["diskWrittenBytes"].as_u64() >= Some(1 << 20),
        "{rows}"
    );
    let text = machines.mvm(["metrics", "volume"])?.stdout();
    assert!(families(&text)?.contains("mvm_disk_flushes"), "{text}");
    Ok(())
}

/// Names of the families, once it is seen that the text is as `OpenMetrics` 1.0 wants it.
fn families(text: &str) -> Result<BTreeSet<String>> {
    let body = text.strip_suffix("# EOF\n").context("no end")?;
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    let mut family = (String::new(), String::new());
    for line in body.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "TYPE", name, kind] => {
                assert!(families.insert(name.to_owned()), "{name} twice");
                family = (name.into(), kind.into());
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(name, family.0);
                assert!(name.ends_with(&format!("_{unit}")), "{name} in {unit}");
            }
            ["#", "HELP", name, _] => assert_eq!(name, family.0),
            _ => {
                let (series, value) = line.rsplit_once(' ').context("no value")?;
                let (name, labels) = series.split_once('{').context("no labels")?;
                let suffix = match family.1.as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    "gauge" => "",
                    other => panic!("{other} is no type"),
                };
                assert_eq!(name, format!("{}{suffix}", family.0));
                assert!(labels.ends_with("\"}"), "{line}");
                assert!(value.parse::<f64>()? >= 0.0, "{line}");
                assert!(samples.insert(series.to_owned()), "{series} twice");
            }
        }
    }
    Ok(families)
}
