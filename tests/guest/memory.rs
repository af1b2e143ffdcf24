//! Memory that the guest frees goes back to the host.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mvm_test::Machines;

use crate::shell;

/// What the guest fills and frees, a page fault for each 4 KiB: half a minute on a slow host that
/// emulates KVM.
const FILLED_MIB: u64 = 256;

/// Between two looks, and how many: the guest reports two seconds after it has freed. Each look
/// takes a second or two itself where KVM is emulated, and all of them less than a machine may.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: usize = 40;

/// Prints the resident memory of the process that has processors and that variable, in KiB.
const RESIDENT: &str = r#"
    for thread in $(grep -lsx vcpu0 /proc/[0-9]*/task/*/comm); do
        process=${thread%/task/*}
        grep -qs "MVM_TEST_MARK=$0" "$process/environ" || continue
        sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB$/\1/p' "$process/status"
    done
"#;

/// Resident memory of the monitor, in MiB. It is a process of this host, or of the emulated host.
fn resident_mib(mark: &str) -> Result<u64> {
    let shell = ["/bin/sh", "-c", RESIDENT, mark];
    let mut here = Command::new(shell[0]);
    let mut words = here.args(&shell[1..]).output()?.stdout;
    if words.is_empty() {
        let mut inside = Command::new(mvm_test::mvm());
        inside.args(["emulator", "exec", "--"]).args(shell);
        let output = inside.output()?;
        ensure!(output.status.success(), "{output:?}");
        words = output.stdout;
    }
    let words = String::from_utf8(words)?;
    let kib: u64 = words
        .trim()
        .parse()
        .with_context(|| format!("no monitor has {mark} in its environment: {words:?}"))?;
    Ok(kib / 1024)
}

#[test]
fn what_is_freed_goes_back_to_the_host() -> Result<()> {
    let mark = format!("{}-memory", std::process::id());
    // Not of zeroes, which go back once a machine has started.
    let script = format!(
        "echo ready; read -r _
         yes | head -c {FILLED_MIB}M > /tmp/file; echo full; read -r _
         rm /tmp/file; echo free; read -r _"
    );
    let machine = shell("frees", &script)
        .memory_mib(512)
        .set("/root/size", "80%")
        .host_env("MVM_TEST_MARK", &mark);
    let mut running = machine.spawn()?;
    running.wait_for("ready\n")?;
    let before = resident_mib(&mark)?;
    running.write("fill\n")?;
    running.wait_for("full\n")?;
    let full = resident_mib(&mark)?;
    running.write("free\n")?;
    running.wait_for("free\n")?;
    // Nine tenths of it, at least.
    let enough = full - FILLED_MIB * 9 / 10;
    let mut freed = full;
    for _ in 0..LOOKS {
        freed = resident_mib(&mark)?;
        if freed <= enough {
            break;
        }
        thread::sleep(PAUSE);
    }
    running.write("end\n")?;
    running.finish()?.success();
    ensure!(
        full >= before + FILLED_MIB * 9 / 10,
        "{before} MiB, then {full}"
    );
    ensure!(
        freed <= enough,
        "{full} MiB, and {freed} after all was freed"
    );
    Ok(())
}

#[test]
fn a_program_that_needs_more_memory_than_there_is_ends_with_a_reason() -> Result<()> {
    let machines = Machines::new()?;
    let hog = "exec python3 -c '[bytes([n]) * (1 << 20) for n in range(200)]'";
    let machine = |name| shell(name, hog).memory_mib(96);
    let output = machines.own(machine("foreground")).run()?;
    assert_eq!(output.status, 137, "{output}");
    let reason = "the guest's kernel killed it for want of memory";
    assert!(output.stderr().contains(reason), "{output}");

    machines.start(machine("background"))?;
    assert_eq!(machines.mvm(["wait", "background"])?.success(), "137\n");
    let seen = machines.mvm(["inspect", "background"])?.success();
    assert!(seen.contains(reason), "{seen}");
    let filter = ["events", "--json", "--filter", "event=oom"];
    let events = machines.mvm(filter)?.success();
    let guests = events.matches(r#""event":"oom","kernel":"guest""#).count();
    assert_eq!(guests, 2, "{events}");
    // Killed by a user it has no such reason.
    machines.start(shell("killed", "exec sleep 1000"))?;
    machines.mvm(["kill", "killed"])?.success();
    let seen = machines.mvm(["inspect", "killed"])?.success();
    assert!(!seen.contains(reason), "{seen}");
    Ok(())
}
