//! Checks of a program from inside its machine, and what is told of them.

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::{Value, json};

use crate::{shell, tool};

/// Waits until the checks say so.
fn await_health(machines: &Machines, name: &str, status: &str) -> Result<()> {
    machines.inspect_until(name, |seen| seen["health"]["status"] == status)?;
    Ok(())
}

fn checked(machine: Machine, check: Value) -> Machine {
    let machine = machine.set("/healthcheck", check);
    machine
        .set("/healthcheck/interval", "100ms")
        .set("/healthcheck/retries", 2)
}

#[test]
fn a_check_follows_the_program_and_all_of_it_is_told() -> Result<()> {
    let machines = Machines::new()?;
    let check = json!({ "exec": ["bash", "-c", "id -u; [[ -e /tmp/well ]]"] });
    let machine = checked(shell("patient", "exec sleep 1000"), check);
    machines.start(machine.user("1234"))?;

    await_health(&machines, "patient", "unhealthy")?;
    let seen = machines.inspect("patient")?;
    assert_eq!(seen["ready"], false);
    assert_eq!(seen["health"]["last"]["output"], "1234");
    let status = machines.mvm(["status", "patient"])?.stdout();
    assert!(
        status.starts_with("patient: running (unhealthy), "),
        "{status}"
    );

    machines.mvm(["exec", "patient", "touch", "/tmp/well"])?;
    await_health(&machines, "patient", "healthy")?;
    assert_eq!(machines.inspect("patient")?["ready"], true);
    machines.mvm(["pause", "patient"])?;
    machines.mvm(["unpause", "patient"])?;
    machines.mvm(["exec", "patient", "rm", "/tmp/well"])?;
    await_health(&machines, "patient", "unhealthy")?;
    machines.mvm(["stop", "patient"])?;
    machines.mvm(["rm", "patient"])?;
    let expected = [
        "created",
        "started",
        "unhealthy",
        "healthy",
        "ready",
        "paused",
        "unpaused",
        "unhealthy",
        "died",
        "stopped",
        "removed",
    ];
    assert_eq!(machines.events("patient")?, expected);
    Ok(())
}

#[test]
fn a_server_is_ready_when_it_answers() -> Result<()> {
    let machines = Machines::new()?;
    let httpd = "sleep 1; mkdir /www; echo all is well >/www/up; exec httpd -f -p 8080 -h /www";
    let http = json!({ "port": 8080, "path": "/up", "status": 200, "contains": "is well" });
    let redis = "redis-server --port 6379 --unixsocket /run/redis --save ''";
    for (name, script, check) in [
        ("http", httpd, json!({ "http": http })),
        ("tcp", redis, json!({ "tcp": { "port": 6379 } })),
        ("unix", redis, json!({ "unix": "/run/redis" })),
    ] {
        let check = checked(shell(name, script), check).set("/healthcheck/startPeriod", "1m");
        machines.start(check.flag("--wait"))?;
        await_health(&machines, name, "healthy")?;
        machines.mvm(["rm", "--force", name])?;
    }
    Ok(())
}

#[test]
fn who_waits_for_one_that_will_not_be_ready_is_told_why() -> Result<()> {
    let machines = Machines::new()?;
    let start = |machine: Machine| {
        let output = machines.own(machine).flag("-d").flag("--wait").run()?;
        anyhow::Ok((output.status, output.stderr()))
    };
    let never = json!({ "tcp": { "port": 1 } });
    let ends = checked(
        shell("ends", "echo no luck; sleep 0.5; exit 3"),
        never.clone(),
    );
    let (status, why) = start(ends.set("/healthcheck/startPeriod", "1h"))?;
    let expected = "mvm: ends has ended with status 3\nits program said last:\n  no luck\n";
    assert_eq!((status, why.as_str()), (125, expected));

    let (status, why) = start(checked(tool("ill", ["sleep", "1000"]), never.clone()))?;
    assert_eq!(status, 125);
    let expected = "mvm: ill is unhealthy: cannot connect to port 1: Connection refused";
    assert!(why.starts_with(expected), "{why}");

    let late = checked(tool("late", ["sleep", "1000"]), never);
    let late = late.set("/healthcheck/startPeriod", "1h");
    let (status, why) = start(late.flag("--wait-timeout=1"))?;
    assert_eq!(
        (status, why.as_str()),
        (125, "mvm: late is not ready after 1 s\n")
    );
    Ok(())
}

#[test]
fn a_check_that_hangs_or_floods_fails_and_is_ended() -> Result<()> {
    let machines = Machines::new()?;
    for (name, command) in [("hangs", ["sleep", "4321"]), ("floods", ["yes", "4321"])] {
        let check = json!({ "exec": command, "timeout": "500ms" });
        machines.start(checked(shell(name, "exec sleep 1000"), check))?;
        await_health(&machines, name, "unhealthy")?;
        let said = machines.inspect(name)?["health"]["last"]["output"].take();
        let said = said.as_str().unwrap_or_default();
        assert!(said.starts_with("it took longer than 0"), "{said}");
        // At most the one that runs now and one that is being killed.
        let count = "n=0; for c in /proc/[0-9]*/cmdline; do \
             [[ $(tr '\\0' ' ' <$c) == *' 4321 ' ]] && n=$((n+1)); done; ((n <= 2))";
        let output = machines.mvm(["exec", name, "bash", "-c", count])?;
        assert_eq!(output.status, 0, "{output}");
    }
    Ok(())
}
