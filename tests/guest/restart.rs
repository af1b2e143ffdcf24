//! Machines that are started again when they have ended.

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::{Value, json};

use crate::{kill_where_machines_run, shell, tool};

/// Waits until the machine is in that state, after that many starts by its policy.
fn await_state(machines: &Machines, name: &str, status: &str, restarts: u64) -> Result<()> {
    let is_so = |seen: &Value| seen["status"] == status && seen["restarts"] == restarts;
    machines.inspect_until(name, is_so)?;
    Ok(())
}

/// The standard output of a command that succeeds.
fn answer(machines: &Machines, arguments: &[&str]) -> Result<String> {
    let output = machines.mvm(arguments)?;
    assert_eq!((output.status, output.stderr()), (0, String::new()));
    Ok(output.stdout())
}

/// A machine that waits long before it is started again.
fn patient(name: &str) -> Machine {
    let restart = json!({ "policy": "always", "delay": "1h", "maxDelay": "1h" });
    shell(name, "echo run; exit 4").set("/restart", restart)
}

#[test]
fn one_that_fails_is_started_as_often_as_it_may() -> Result<()> {
    let machines = Machines::new()?;
    let machine = shell("fails", "echo run; exit 3");
    machines.start(machine.flag("--restart=on-failure:2"))?;
    assert_eq!(answer(&machines, &["wait", "fails"])?, "3\n");
    assert_eq!(answer(&machines, &["logs", "fails"])?, "run\nrun\nrun\n");
    await_state(&machines, "fails", "exited", 2)?;
    let events = answer(&machines, &["events", "--filter=event=restarted"])?;
    assert_eq!(events.lines().count(), 2);

    let well = shell("well", "echo run").set("/restart", "on-failure");
    machines.start(well)?;
    assert_eq!(answer(&machines, &["wait", "well"])?, "0\n");
    assert_eq!(answer(&machines, &["logs", "well"])?, "run\n");
    Ok(())
}

#[test]
fn whoever_stops_it_is_the_last() -> Result<()> {
    let machines = Machines::new()?;
    let machine = tool("always", ["sleep", "1000"]).set("/restart", "always");
    machines.start(machine)?;
    machines.mvm(["exec", "always", "bash", "-c", "kill -9 $(pidof sleep)"])?;
    await_state(&machines, "always", "running", 1)?;

    kill_where_machines_run(&machines.inspect("always")?["pid"].to_string())?;
    await_state(&machines, "always", "running", 2)?;

    assert_eq!(answer(&machines, &["stop", "always"])?, "always\n");
    await_state(&machines, "always", "exited", 2)?;
    assert_eq!(answer(&machines, &["start", "always"])?, "always\n");
    await_state(&machines, "always", "running", 0)?;
    assert_eq!(answer(&machines, &["kill", "always"])?, "always\n");
    await_state(&machines, "always", "exited", 0)?;
    assert_eq!(answer(&machines, &["wait", "always"])?, "137\n");
    Ok(())
}

#[test]
fn between_two_runs_it_can_be_stopped_and_removed() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(patient("one"))?;
    await_state(&machines, "one", "restarting", 0)?;
    assert_eq!(answer(&machines, &["ps", "-q"])?, "one\n");
    assert_eq!(answer(&machines, &["stop", "one"])?, "one\n");
    await_state(&machines, "one", "exited", 0)?;
    assert_eq!(answer(&machines, &["wait", "one"])?, "4\n");

    machines.start(patient("other"))?;
    await_state(&machines, "other", "restarting", 0)?;
    assert_eq!(answer(&machines, &["rm", "--force", "other"])?, "other\n");
    assert_eq!(answer(&machines, &["ps", "-aq"])?, "one\n");
    Ok(())
}

#[test]
fn one_that_is_unhealthy_is_started_again_if_it_says_so() -> Result<()> {
    let machines = Machines::new()?;
    let check = json!({
        "exec": ["false"], "interval": "100ms", "retries": 1, "onFailure": "restart",
    });
    let machine = tool("ill", ["sleep", "1000"])
        .set("/healthcheck", check)
        .set(
            "/restart",
            json!({ "policy": "on-failure", "maxRetries": 1 }),
        );
    machines.start(machine)?;
    assert_eq!(answer(&machines, &["wait", "ill"])?, "143\n");
    let seen = machines.inspect("ill")?;
    assert_eq!(
        (&seen["restarts"], &seen["status"]),
        (&json!(1), &json!("exited"))
    );
    let reason = seen["end"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("it was unhealthy: "), "{seen}");
    Ok(())
}
