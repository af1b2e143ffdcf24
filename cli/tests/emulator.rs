//! The emulated host as its users meet it: started when needed, shared, killed, stopped.
//!
//! The one thing to know: each test has an emulated host of its own, in its own runtime folder.
//! Where QEMU or the kernel is missing, nothing can be started and the tests say so.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// For what must happen soon, on the slowest host.
const PATIENCE: Duration = Duration::from_secs(60);

/// The line of a command that starts it.
const NOTICE: &str = "using an emulated host";

/// A runtime folder, with the emulated host that is started there.
struct Host {
    runtime: TempDir,
    idle_seconds: u32,
}

impl Host {
    /// `None`, with a reason on standard error, where none can be started.
    fn new() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let has_qemu = env::split_paths(&path).any(|dir| dir.join("qemu-system-x86_64").is_file());
        let missing = match vmm::kernel::find(None) {
            Err(error) => Some(format!("{error:#}")),
            Ok(_) => (!has_qemu).then(|| "qemu-system-x86_64 is not installed".into()),
        };
        if let Some(reason) = missing {
            eprintln!("skipped: {reason}");
            return None;
        }
        Some(Self {
            runtime: tempfile::tempdir().unwrap(),
            idle_seconds: 600,
        })
    }

    fn mvm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mvm"));
        command
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env("MVM_INIT", init())
            .env("MVM_EMULATOR_MEMORY_MIB", "1024")
            .env("MVM_EMULATOR_IDLE_SECONDS", self.idle_seconds.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A shell's script, inside.
    fn script(&self, script: &str) -> Command {
        self.mvm(&["emulator", "exec", "--", "/bin/sh", "-c", script])
    }

    fn status(&self) -> serde_json::Value {
        let output = self
            .mvm(&["emulator", "status", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn kill(&self, process: &str) {
        let pid = self.pid(process);
        kill_process(pid, Signal::KILL).unwrap();
    }

    fn pid(&self, process: &str) -> Pid {
        let pid = self.status()[process].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    /// Starts a script that does not end, and waits until it runs.
    fn endless(&self) -> Child {
        self.endless_after("true")
    }

    /// The same, after a command.
    fn endless_after(&self, command: &str) -> Child {
        let mark = self.runtime.path().join("runs");
        let child = self
            .script(&format!("{command}; echo > {}; sleep 1000", mark.display()))
            .spawn()
            .unwrap();
        wait_for(|| mark.exists());
        child
    }

    fn socket(&self) -> PathBuf {
        self.runtime.path().join("mvm-emulator/socket")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.mvm(&["emulator", "stop"]).output();
    }
}

/// The guest's program: `$MVM_INIT`, or built for this run.
fn init() -> PathBuf {
    if let Some(path) = env::var_os("MVM_INIT") {
        return path.into();
    }
    // The folder that `make guest` uses.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../static");
    let triple = "x86_64-unknown-linux-gnu";
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "guest",
            "--profile",
            "guest",
            "--target",
            triple,
        ])
        .arg("--target-dir")
        .arg(&target)
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        )
        .status()
        .unwrap();
    assert!(built.success());
    target.join(triple).join("guest/mvm-init")
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "it did not happen within {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    // A zombie has ended, whoever is to collect it.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command says whose emulated host ended under it: mvm's status, one line.
fn assert_told(output: &Output) {
    let errors = errors(output);
    let lines: Vec<_> = errors
        .lines()
        .filter(|line| !line.contains(NOTICE))
        .collect();
    assert_eq!(output.status.code(), Some(125), "{errors}");
    assert_eq!(lines.len(), 1, "{errors}");
    assert!(lines[0].contains("emulated host"), "{errors}");
}

#[test]
fn a_command_is_carried_out_as_here() {
    let Some(host) = Host::new() else { return };
    let script = "cat; echo err >&2; pwd; echo $VARIABLE; exit 42";
    let mut command = host.script(script);
    let command = command
        .current_dir("/usr")
        .env("VARIABLE", "a b")
        .stdin(Stdio::piped());
    let first = command.output().unwrap();
    let second = host.script("kill -TERM $$").output().unwrap();
    assert_eq!(first.status.code(), Some(42));
    assert_eq!(first.stdout, b"/usr\na b\n");
    assert!(errors(&first).contains(NOTICE) && errors(&first).ends_with("err\n"));
    assert_eq!(second.status.code(), Some(128 + 15));
    assert_eq!(errors(&second), "");
}

#[test]
fn files_are_the_hosts_as_they_are_now() {
    let Some(host) = Host::new() else { return };
    let file = host.runtime.path().join("file");
    let read = format!("cat {}", file.display());
    fs::write(&file, "before").unwrap();
    let before = host.script(&read).output().unwrap();
    fs::write(&file, "afterwards").unwrap();
    let after = host.script(&read).output().unwrap();
    fs::remove_file(&file).unwrap();
    let gone = host.script(&read).status().unwrap();
    let write = format!("echo inside > {}", file.display());
    host.script(&write).status().unwrap();
    assert_eq!(
        (before.stdout, after.stdout),
        (b"before".to_vec(), b"afterwards".to_vec())
    );
    assert!(!gone.success());
    assert_eq!(fs::read(&file).unwrap(), b"inside\n");
}

#[test]
fn so_are_those_that_somebody_holds_open_inside() {
    let Some(host) = Host::new() else { return };
    let file = host.runtime.path().join("file");
    let read = || {
        let mut read = host.script(&format!("cat {}", file.display()));
        String::from_utf8(read.output().unwrap().stdout).unwrap()
    };
    fs::write(&file, "one\n").unwrap();
    let mut holder = host.endless_after(&format!("exec 3< {0}; cat {0}", file.display()));
    let mut own = fs::File::options().write(true).open(&file).unwrap();
    own.write_all(b"ONE\ntwo\n").unwrap();
    let by_the_host = read();
    let write = format!("echo three >> {}", file.display());
    host.script(&write).status().unwrap();
    let by_one_inside = read();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(by_the_host, "ONE\ntwo\n");
    assert_eq!(by_one_inside, "ONE\ntwo\nthree\n");
}

#[test]
fn programs_are_not_read_page_by_page() {
    let Some(host) = Host::new() else { return };
    let mut look = host.script("cat /sys/class/bdi/9p-*/read_ahead_kb");
    let ahead = String::from_utf8(look.output().unwrap().stdout).unwrap();
    assert!(ahead.lines().all(|kib| kib == "496"), "{ahead}");
    assert!(!ahead.is_empty());
}

#[test]
fn commands_at_once_start_one_emulated_host() {
    let Some(host) = Host::new() else { return };
    let children: Vec<_> = (0..3)
        .map(|_| {
            host.script("cat /proc/sys/kernel/random/boot_id")
                .spawn()
                .unwrap()
        })
        .collect();
    let outputs: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    let notices = outputs
        .iter()
        .filter(|output| errors(output).contains(NOTICE))
        .count();
    assert_eq!(notices, 1);
    assert!(!outputs[0].stdout.is_empty());
    assert!(
        outputs
            .iter()
            .all(|output| output.stdout == outputs[0].stdout)
    );
}

#[test]
fn after_stop_nothing_is_left() {
    let Some(host) = Host::new() else { return };
    let waiting = host.endless();
    let pids = [host.pid("pid"), host.pid("machine_pid")];
    let stopped = host.mvm(&["emulator", "stop"]).status().unwrap();
    assert!(stopped.success());
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    assert!(!host.socket().exists());
    assert_eq!(host.status()["running"], false);
    assert_told(&waiting.wait_with_output().unwrap());
    assert!(host.mvm(&["emulator", "stop"]).status().unwrap().success());
}

#[test]
fn a_killed_emulator_is_told_and_replaced() {
    let Some(host) = Host::new() else { return };
    let waiting = host.endless();
    host.kill("machine_pid");
    assert_told(&waiting.wait_with_output().unwrap());
    let next = host.script("exit 3").output().unwrap();
    assert_eq!(next.status.code(), Some(3));
    assert!(errors(&next).contains(NOTICE));
}

#[test]
fn a_killed_broker_takes_its_emulator_with_it() {
    let Some(host) = Host::new() else { return };
    let waiting = host.endless();
    let machine = host.pid("machine_pid");
    host.kill("pid");
    assert_told(&waiting.wait_with_output().unwrap());
    wait_for(|| !is_alive(machine));
    let next = host.script("exit 3").output().unwrap();
    assert_eq!(next.status.code(), Some(3));
}

#[test]
fn a_command_that_is_killed_ends_its_program_alone() {
    let Some(host) = Host::new() else { return };
    let mut waiting = host.endless();
    // The brackets keep the search from finding itself.
    let search = "grep -la '[s]leep.1000' /proc/[0-9]*/cmdline | wc -l";
    let before = host.script(search).output().unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    wait_for(|| host.status()["commands"] == 0);
    let after = host.script(search).output().unwrap();
    assert_ne!(before.stdout, b"0\n");
    assert_eq!(after.stdout, b"0\n");
}

#[test]
fn without_work_it_ends_by_itself() {
    let Some(mut host) = Host::new() else { return };
    host.idle_seconds = 1;
    let mut work = host.endless();
    let machine = host.pid("machine_pid");
    work.kill().unwrap();
    work.wait().unwrap();
    wait_for(|| host.status()["running"] == false);
    assert!(!is_alive(machine));
    assert!(!host.socket().exists());
}

#[test]
fn as_long_as_a_machine_runs_it_goes_on_without_commands() {
    let Some(mut host) = Host::new() else { return };
    host.idle_seconds = 1;
    let end = host.runtime.path().join("end");
    // What of a machine counts is the lock of its folder.
    let script = r#"
        mkdir -p /dev/mvm/some/set/machine
        setsid flock /dev/mvm/some/set/machine sh -c 'until [ -e "$0" ]; do sleep 0.1; done' "$0" \
            </dev/null >/dev/null 2>&1 &
        until ! flock -n /dev/mvm/some/set/machine true; do sleep 0.1; done
    "#;
    let status = host.script(script).arg(&end).status().unwrap();
    assert!(status.success());
    // Time for several looks.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(host.status()["running"], true);
    fs::write(&end, "").unwrap();
    wait_for(|| host.status()["running"] == false);
}

#[test]
fn a_missing_emulator_is_told_with_its_package() {
    let Some(host) = Host::new() else { return };
    let output = host
        .script(":")
        .env("PATH", "/no/such/folder")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(
        errors(&output).contains("`apt-get install qemu-system-x86`"),
        "{}",
        errors(&output)
    );
}
