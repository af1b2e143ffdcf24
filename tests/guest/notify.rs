//! Programs that say themselves how they do, at the socket of their machine.

use anyhow::Result;
use mvm_test::{Machine, Machines};
use serde_json::json;

use crate::shell;

/// What each of them begins with.
const SAY: &str = r#"
import os, socket, time
socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
socket.connect(os.environ["NOTIFY_SOCKET"])
def say(words):
    socket.send(words.encode())
"#;

fn speaker(name: &str, script: &str) -> Machine {
    shell(name, &format!("exec python3 -c '{SAY}{script}'")).set("/ready", "notify")
}

#[test]
fn a_program_says_itself_when_it_is_ready_and_how_it_does() -> Result<()> {
    let machines = Machines::new()?;
    let script = r#"
say("STATUS=loading\nMAINPID=1\nFDSTORE=1")
while not os.path.exists("/tmp/go"):
    time.sleep(0.1)
say("STATUS=" + "x" * 5000)
say("STATUS=serving\x1b[2J\nREADY=1")
time.sleep(1000)
"#;
    machines.start(speaker("speaker", script).user("1234"))?;
    let seen = machines.inspect_until("speaker", |seen| seen["statusText"] == "loading")?;
    assert_eq!(seen["ready"], false);
    machines
        .mvm(["exec", "speaker", "touch", "/tmp/go"])?
        .success();
    let seen = machines.inspect_until("speaker", |seen| seen["ready"] == true)?;
    assert_eq!(seen["statusText"], "serving [2J");
    assert_eq!(machines.events("speaker")?, ["created", "started", "ready"]);

    let patient = speaker(
        "patient",
        "time.sleep(1)\nsay(\"READY=1\")\ntime.sleep(1000)",
    );
    machines.start(patient.flag("--wait"))?;
    machines.inspect_until("patient", |seen| seen["ready"] == true)?;

    let silent = machines.own(speaker("silent", "time.sleep(0.5)\nraise SystemExit(3)"));
    let output = silent.flag("--detach").flag("--wait").run()?;
    let why = output.stderr();
    assert!(
        why.starts_with("mvm: silent has ended with status 3"),
        "{output}"
    );
    Ok(())
}

#[test]
fn one_that_falls_silent_is_ended_and_started_again() -> Result<()> {
    let machines = Machines::new()?;
    let script = r#"
print("each", os.environ["WATCHDOG_USEC"], flush=True)
say("READY=1")
for _ in range(12):
    time.sleep(0.5)
    say("WATCHDOG=1")
print("alive", flush=True)
time.sleep(1000)
"#;
    let machine = speaker("silent", script).set("/watchdog", "5s");
    machines.start(machine.flag("--restart=on-failure:1"))?;
    // SIGABRT is 6.
    assert_eq!(machines.mvm(["wait", "silent"])?.success(), "134\n");
    let logs = machines.mvm(["logs", "silent"])?.success();
    assert_eq!(logs, "each 5000000\nalive\n".repeat(2));
    let seen = machines.inspect_until("silent", |seen| seen["status"] == "exited")?;
    let reason = "its program has not said for 5 s that it lives";
    assert_eq!(seen["end"]["reason"], reason);
    let life = ["started", "ready", "watchdog", "died"];
    let expected = [&["created"][..], &life, &["restarted"], &life].concat();
    assert_eq!(machines.events("silent")?, expected);

    let stuck = speaker("stuck", "say(\"WATCHDOG=trigger\")\ntime.sleep(1000)");
    machines.start(stuck)?;
    assert_eq!(machines.mvm(["wait", "stuck"])?.success(), "134\n");
    let seen = machines.inspect_until("stuck", |seen| seen["status"] == "exited")?;
    let reason = "its program has said that it is stuck";
    assert_eq!(seen["end"]["reason"], reason);
    Ok(())
}

#[test]
fn one_that_will_not_abort_is_killed() -> Result<()> {
    let machines = Machines::new()?;
    let script = r#"
import signal
signal.signal(signal.SIGABRT, lambda *_: print("no", flush=True))
say("READY=1")
while True:
    time.sleep(1000)
"#;
    machines.start(speaker("stubborn", script).set("/watchdog", "1s"))?;
    // SIGKILL is 9.
    assert_eq!(machines.mvm(["wait", "stubborn"])?.success(), "137\n");
    assert_eq!(machines.mvm(["logs", "stubborn"])?.success(), "no\n");
    Ok(())
}

#[test]
fn a_program_that_floods_or_breaks_its_socket_is_watched_on() -> Result<()> {
    let machines = Machines::new()?;
    // As root it may end whoever listens, and take the socket's file away.
    let script = r#"
say("READY=1")
for _ in range(20000):
    socket.send(os.urandom(100) + b"\nSTATUS=\xff\nSTATUS=flood")
for process in os.listdir("/proc"):
    try:
        if b"notify" in open("/proc/" + process + "/cmdline", "rb").read().split(b"\0"):
            os.kill(int(process), 9)
    except (OSError, ValueError):
        pass
while True:
    # Who has been killed may take one more word before it goes.
    try:
        socket.connect(os.environ["NOTIFY_SOCKET"])
        say("STATUS=heard again")
    except OSError:
        pass
    time.sleep(0.2)
"#;
    let machine = speaker("flood", script).set("/watchdog", "10m");
    machines.start(machine.set("/restart", json!("no")))?;
    let seen = machines.inspect_until("flood", |seen| seen["statusText"] == "heard again")?;
    assert_eq!(
        (&seen["ready"], &seen["status"]),
        (&true.into(), &"running".into())
    );
    Ok(())
}
