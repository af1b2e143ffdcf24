//! A store whose way is chosen by what earlier starts have cost, `store.data: auto`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use mvm_test::{Machine, Machines, closure, fixture};
use serde_json::Value;

use crate::shell;

/// Reads all that the machine sees of the store but the paths of others.
const READ_WHOLE: &str = "find $PATHS -type f -print0 | xargs -0 cat | wc -c";

fn whole(then: &str) -> Result<Machine> {
    let paths = closure(&fixture("tools"))?.join(" ");
    let script = format!("{READ_WHOLE}; {then}");
    Ok(shell("auto", &script)
        .set("/store/data", "auto")
        .env("PATHS", &paths))
}

/// How a machine in the background has its store, and why.
fn given(machines: &Machines) -> Result<(String, String)> {
    let facts = machines.inspect("auto")?;
    let text = |key: &str| {
        let text = facts[key].as_str().map(str::to_owned);
        text.with_context(|| format!("{key} of {facts:#}"))
    };
    Ok((text("storeData")?, text("storeDataReason")?))
}

/// The first two starts have their store plain, and say why.
fn start_twice(machines: &Machines, machine: impl Fn() -> Result<Machine>) -> Result<()> {
    for known in 0..2 {
        let dry = machines.own(machine()?).flag("--dry-run").run()?.success();
        let plan: Value = serde_json::from_str(&dry)?;
        assert_eq!(plan["storeData"], "plain", "{plan:#}");
        let reason = plan["storeDataReason"].as_str().unwrap_or_default();
        let told = format!("to be measured; {known} are known of this one");
        assert!(reason.ends_with(&told), "{reason}");
        let output = machines.own(machine()?).count_requests().run()?;
        output.success();
        assert_eq!(output.shares(), ["store"]);
    }
    Ok(())
}

#[test]
fn what_is_read_whole_is_an_image_once_it_is_measured() -> Result<()> {
    let machines = Machines::new()?;
    start_twice(&machines, || whole("true"))?;
    let dry = machines.own(whole("true")?).flag("--dry-run").run()?;
    let plan: Value = serde_json::from_str(&dry.success())?;
    assert_eq!(plan["storeData"], "image", "{plan:#}");

    for known in 0..2 {
        machines.start(whole("exec sleep 1000")?)?;
        let (data, reason) = given(&machines)?;
        assert_eq!(data, "image", "{reason}");
        let tried = format!("tried 2 times, to be measured; {known} are known; plain the fastest");
        assert!(reason.starts_with(&tried), "{reason}");
        assert!(reason.contains(" requests) and "), "{reason}");
        // What it cost is noted at its end, unless that is late.
        machines.mvm(["stop", "auto"])?.success();
        machines.mvm(["rm", "auto"])?.success();
    }

    // What that has cost is set against what is known of plain, whichever of both was faster.
    let again = || machines.own(whole("true")?).flag("--dry-run").run();
    let plan: Value = serde_json::from_str(&again()?.success())?;
    let reason = plan["storeDataReason"].as_str().unwrap_or_default();
    let both = ["the fastest start took ", " as image, ", " MiB plain"];
    assert!(both.iter().all(|part| reason.contains(part)), "{reason}");
    Ok(())
}

#[test]
fn what_is_hardly_read_stays_plain() -> Result<()> {
    let machines = Machines::new()?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("paths");
    let mut paths = Vec::new();
    for name in ["busybox", "tools", "python3", "postgresql", "nix"] {
        paths.extend(closure(&fixture(name))?);
    }
    paths.sort();
    paths.dedup();
    fs::write(&list, paths.join("\n") + "\n")?;
    let busybox = format!("{}/bin/busybox", fixture("busybox"));
    let machine = |argv: &[&str]| {
        let argv = [&[&*busybox], argv].concat();
        Machine::new("auto")
            .program(argv)
            .memory_mib(128)
            .set("/store/data", "auto")
            .set("/store/closure", list.to_string_lossy())
    };
    start_twice(&machines, || Ok(machine(&["true"])))?;
    machines.start(machine(&["sleep", "1000"]))?;
    let (data, reason) = given(&machines)?;
    assert_eq!(data, "plain", "{reason}");
    assert!(reason.starts_with("a start takes "), "{reason}");
    Ok(())
}

#[test]
fn where_there_can_be_no_image_a_window_is_tried() -> Result<()> {
    let machines = Machines::new()?;
    let machine = |then: &str| Ok(whole(then)?.set("/store/mode", "all"));
    start_twice(&machines, || machine("true"))?;
    machines.start(machine("exec sleep 1000")?)?;
    let (data, reason) = given(&machines)?;
    assert_eq!(data, "dax", "{reason}");
    let why = "; no image: it sees all of the store";
    assert!(reason.ends_with(why), "{reason}");
    Ok(())
}

#[test]
fn who_can_write_nothing_down_starts_as_if_nothing_were_known() -> Result<()> {
    let machines = Machines::new()?;
    let state = machines.state();
    let state: &Path = state.as_ref();
    fs::create_dir_all(state)?;
    // As root may write where nobody else may, a file is where the folder should be.
    fs::write(state.join("store-costs"), "")?;
    for _ in 0..3 {
        let output = machines.own(whole("true")?).count_requests().run()?;
        output.success();
        assert_eq!(output.shares(), ["store"]);
    }
    Ok(())
}
