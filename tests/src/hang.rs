//! What there is to see of a machine that takes too long, before it is killed.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

/// Each thread of each `mvm` where machines run: what it is called, the system call that it is in,
/// and its ticks of processor time as a program and in the kernel.
const THREADS: &str = r#"
    for process in /proc/[0-9]*; do
        read -r name < $process/comm && [ "$name" = mvm ] || continue
        echo "${process#/proc/} $(tr '\0' ' ' < $process/cmdline)"
        for task in $process/task/*; do
            read -r name < $task/comm && read -r call < $task/syscall && read -r line < $task/stat || continue
            set -- ${line##*) }
            echo "  $name $1 [$call] ${12} ${13}"
        done
    done 2>&1
"#;

/// Each process of a machine that is about something: the same of it.
const PROCESSES: &str = r#"
    for process in /proc/[0-9]*; do
        read -r line < $process/stat && read -r call < $process/syscall || continue
        set -- ${line##*) }
        # A thread of the kernel that waits for work says nothing.
        case $1$call in I* | S0\ 0x0\ 0x0*) continue ;; esac
        echo "${line%%)*}) $1 [$call] ${12} ${13}"
    done 2>&1
"#;

/// How long any of it may take: a host that hangs answers nobody.
const PATIENCE_SECONDS: &str = "60";

/// Tells of the threads of the host's `mvm`, and of the processes of each machine that a command with
/// this environment knows.
pub fn describe(environment: &[(OsString, OsString)]) -> String {
    let ask = |argv: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE_SECONDS).args(argv);
        command.envs(environment.iter().cloned());
        match command.stdin(Stdio::null()).output() {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                String::from_utf8_lossy(&output.stdout).into_owned() + &errors
            }
            Err(error) => error.to_string(),
        }
    };
    let mvm = crate::mvm();
    let mvm = mvm.to_string_lossy();
    let emulated = ask(&[&mvm, "emulator", "status", "--json"]).contains("\"running\": true");
    let threads = if emulated {
        ask(&[&mvm, "emulator", "exec", "--", "sh", "-c", THREADS])
    } else {
        ask(&["sh", "-c", THREADS])
    };
    let mut told = format!("--- threads of mvm\n{threads}");
    let bash = format!("{}/bin/bash", crate::fixture("tools"));
    for name in ask(&[&mvm, "ps", "--quiet"]).lines() {
        let processes = ask(&[&mvm, "exec", name, "--", &bash, "-c", PROCESSES]);
        // Fails never: it is a string.
        let _ = write!(told, "--- processes of the machine {name}\n{processes}");
    }
    told
}
