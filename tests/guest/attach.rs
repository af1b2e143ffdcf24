//! Commands at the streams of programs in the background, and how they leave.

use anyhow::Result;
use mvm_test::{Machines, Signal};

use crate::{shell, tool, until};

/// What Docker leaves a program with.
const KEYS: &str = "\x10\x11";

/// Says what it reads, what it gets, and again and again that it is there. The time may be over in the
/// middle of a line.
const SERVICE: &str = r#"
    trap 'echo hung up' HUP; trap 'echo bye; exit 7' TERM; echo warning >&2
    while true; do
        if read -r -t 0.2 part; then echo "read: $begun$part"; begun=; else begun+=$part; echo .; fi
    done
"#;

/// Says the size of its terminal when it changes, and what it reads. A shell would lose some of it.
const TERMINAL: &str = r#"
import os, signal, sys
def say(*words):
    os.write(1, " ".join(map(str, words)).encode() + b"\n")
def show(*_):
    size = os.get_terminal_size()
    say(size.lines, size.columns)
signal.signal(signal.SIGWINCH, show)
say("up")
while True:
    say(f"<{sys.stdin.readline().rstrip()}>")
"#;

#[test]
fn several_see_and_type_and_hear_of_the_end() -> Result<()> {
    let machines = Machines::new()?;
    let started = machines.own(shell("service", SERVICE)).flag("-di").run()?;
    assert_eq!(started.status, 0, "{started}");
    let warned = || anyhow::Ok(machines.mvm(["logs", "service"])?.stderr());
    until(|| !warned().expect("a log").is_empty());
    let mut one = machines.spawn(["attach", "service"])?;
    one.write("one\n")?;
    one.wait_for("read: one\n")?;
    let mut other = machines.spawn(["attach", "service"])?;
    other.write("two\n")?;
    one.wait_for("read: two\n")?;
    // The end of its input is no end of the program's, and what it does to itself none of its doing.
    other.close_stdin();
    other.wait_for("read: two\n")?;
    other.signal(Signal::HUP)?;
    one.wait_for("hung up\n")?;
    let mut silent = machines.spawn(["attach", "--no-stdin", "--sig-proxy=false", "service"])?;
    silent.write("not passed on\n")?;
    silent.wait_for(".\n")?;
    one.write("three\n")?;
    silent.wait_for("read: three\n")?;
    silent.signal(Signal::TERM)?;
    let left = silent.finish()?;
    assert_eq!(left.status, 128 + 15);
    assert_eq!(left.stderr(), "mvm: left service, which goes on\n");
    machines.mvm(["kill", "-s", "TERM", "service"])?;
    for attached in [one, other] {
        let ended = attached.finish()?;
        assert_eq!(ended.status, 7, "{ended}");
        assert!(ended.stdout().ends_with("bye\n"), "{ended}");
        // What was said before is in the log.
        assert_eq!(ended.stderr(), "");
    }
    let logs = machines.mvm(["logs", "service"])?;
    assert!(!logs.stdout().contains("not passed on"), "{logs}");
    assert_eq!(logs.stderr(), "warning\n");
    Ok(())
}

#[test]
fn a_terminal_in_the_background_is_used_and_left() -> Result<()> {
    let machines = Machines::new()?;
    let machine = tool("tty", ["python3", "-c", TERMINAL]);
    let started = machines.own(machine).flag("-dit").run()?;
    assert_eq!(started.status, 0, "{started}");
    machines.logs_until("tty", |said| !said.is_empty())?;
    let mut attached = machines.spawn_on_terminal(33, 77, ["attach", "tty"])?;
    attached.wait_for("33 77\r\n")?;
    attached.write("typed\r")?;
    attached.wait_for("<typed>\r\n")?;
    attached.resize(40, 120)?;
    attached.wait_for("40 120\r\n")?;
    attached.write(KEYS)?;
    let left = attached.finish()?;
    assert_eq!(left.status, 0, "{left}");
    let mut again = machines.spawn_on_terminal(40, 120, ["attach", "--detach-keys=x,y", "tty"])?;
    // A size that is the same is told again, so that it draws.
    again.wait_for("40 120\r\n")?;
    again.write("xz\r")?;
    again.wait_for("<xz>\r\n")?;
    again.write("xy")?;
    assert_eq!(again.finish()?.status, 0);
    assert_eq!(machines.mvm(["ps", "-q"])?.stdout(), "tty\n");
    Ok(())
}

#[test]
fn a_program_of_exec_goes_on_when_it_is_left() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(shell("host", "exec sleep 1000"))?;
    let script = "echo up; while [ ! -e /tmp/go ]; do echo words; sleep 0.1; done; tty >/tmp/done";
    let exec = ["exec", "-it", "host", "bash", "-c", script];
    let mut running = machines.spawn_on_terminal(24, 80, exec)?;
    running.wait_for("up\r\n")?;
    running.write(KEYS)?;
    assert_eq!(running.finish()?.status, 0);
    machines.mvm(["exec", "host", "touch", "/tmp/go"])?;
    let done = || anyhow::Ok(machines.mvm(["exec", "host", "cat", "/tmp/done"])?.stdout());
    while !done()?.starts_with("/dev/pts/") {}
    let bad = machines.mvm(["exec", "--detach-keys", "ctrl-1", "host", "true"])?;
    assert_eq!(bad.status, 125);
    let words = "must be characters or ctrl- and one of";
    assert!(bad.stderr().contains(words), "{bad}");
    Ok(())
}

#[test]
fn what_cannot_be_attached_to_is_told() -> Result<()> {
    let machines = Machines::new()?;
    let mut running = machines.own(shell("front", SERVICE)).spawn()?;
    running.write("up\n")?;
    running.wait_for("read: up\n")?;
    let refused = machines.mvm(["attach", "front"])?;
    let why = "mvm: front: it runs in the foreground of another command, which has its streams\n";
    assert_eq!((refused.status, refused.stderr().as_str()), (125, why));
    machines.mvm(["stop", "front"])?;
    running.finish()?;
    let gone = machines.mvm(["attach", "front"])?;
    assert_eq!(gone.status, 125);
    Ok(())
}
