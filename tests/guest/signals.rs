//! Signals to `mvm` reach the program.

use std::time::Duration;

use anyhow::Result;
use mvm_test::{Machines, Output, Signal};

use crate::{shell, until};

/// For a program to end that was asked to.
const SOON: Duration = Duration::from_secs(2);

/// Starts a program that says `ready`, and sends a signal then.
fn signalled(script: &str, signal: Signal) -> Result<Output> {
    let mut running = shell("signals", script).spawn()?;
    running.wait_for("ready\n")?;
    running.signal(signal)?;
    running.finish_within(SOON)
}

#[test]
fn sigint_and_sigterm_end_a_program_that_sleeps() -> Result<()> {
    let sleep = "echo ready; exec sleep 1000";
    let interrupted = signalled(sleep, Signal::INT)?;
    let terminated = signalled(sleep, Signal::TERM)?;
    assert_eq!(
        (interrupted.status, interrupted.stderr()),
        (128 + 2, String::new())
    );
    assert_eq!(
        (terminated.status, terminated.stderr()),
        (128 + 15, String::new())
    );
    Ok(())
}

#[test]
fn a_program_that_traps_sigterm_exits_as_it_likes() -> Result<()> {
    let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let output = signalled(script, Signal::TERM)?;
    assert_eq!((output.status, output.stdout()), (7, "ready\nbye\n".into()));
    Ok(())
}

#[test]
fn other_signals_are_passed_on_too() -> Result<()> {
    let script = "trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.1; done";
    let output = signalled(script, Signal::USR1)?;
    // Each process of the program gets it, as from a terminal; bash says that its `sleep` did.
    assert_eq!(
        (output.status, output.stdout()),
        (0, "ready\nusr1\n".into()),
        "{output}"
    );
    Ok(())
}

#[test]
fn a_second_sigint_ends_a_machine_whose_program_ignores_the_first() -> Result<()> {
    let script = "trap 'echo no' INT; echo ready; while :; do sleep 0.1; done";
    let mut running = shell("stubborn", script).spawn()?;
    running.wait_for("ready\n")?;
    running.signal(Signal::INT)?;
    running.wait_for("no\n")?;
    running.signal(Signal::INT)?;
    let output = running.finish_within(SOON)?;
    assert_eq!(output.status, 128 + 2, "{output}");
    Ok(())
}

#[test]
fn what_ends_a_program_is_what_its_file_says() -> Result<()> {
    let script =
        "trap 'echo quit; exit 3' QUIT; trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = shell("quits", script)
        .set("/app/stopSignal", "SIGQUIT")
        .spawn()?;
    running.wait_for("ready\n")?;
    running.signal(Signal::TERM)?;
    let output = running.finish_within(SOON)?;
    assert_eq!(
        (output.status, output.stdout()),
        (3, "ready\nquit\n".into())
    );

    let machines = Machines::new()?;
    machines.start(shell("quits", script).flag("--stop-signal=quit"))?;
    until(|| {
        let logs = machines.mvm(["logs", "quits"]);
        logs.is_ok_and(|logs| logs.stdout() == "ready\n")
    });
    machines.mvm(["stop", "quits"])?.success();
    assert_eq!(machines.mvm(["wait", "quits"])?.success(), "3\n");
    Ok(())
}
