//! Whole systems: the fixture's toplevel, with Debian's systemd, as process 1 of a machine.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use mvm_test::{Machine, Machines, Output, fixture};
use rustix::process::Signal;
use serde_json::json;

use crate::network::free_port;
use crate::until;

fn system(name: &str) -> Machine {
    Machine::of_system(name, &fixture("system")).memory_mib(512)
}

/// The one that brings Debian's kernel, and an initrd that is its stage 1.
fn own(name: &str) -> Machine {
    with_own_kernel(name, "system-own")
}

/// A system on the kernel that it brings, by its fixture.
pub fn with_own_kernel(name: &str, system: &str) -> Machine {
    let system = json!({ "path": fixture(system), "kernel": "own" });
    Machine::of_system(name, "")
        .memory_mib(512)
        .set("/system", system)
}

/// What its web server answers.
pub fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a command in the machine prints, whatever its status.
pub fn inside<const N: usize>(machines: &Machines, command: [&str; N]) -> Result<Output> {
    machines.mvm(["exec", "box"].into_iter().chain(command))
}

#[test]
fn a_system_serves_reboots_and_switches_itself_off() -> Result<()> {
    serves_reboots_and_switches_itself_off(system("box"))
}

#[test]
fn a_system_on_its_own_kernel_does_so_too() -> Result<()> {
    serves_reboots_and_switches_itself_off(own("box"))
}

#[test]
fn a_system_whose_stage_1_would_be_systemd_does_so_too() -> Result<()> {
    let machine = Machine::of_system("box", &fixture("system-systemd"));
    serves_reboots_and_switches_itself_off(machine.memory_mib(512))
}

#[test]
fn a_system_whose_stage_1_is_systemd_does_so_too() -> Result<()> {
    serves_reboots_and_switches_itself_off(with_own_kernel("box", "system-own-systemd"))
}

/// All that is expected of a system that serves a page, for once and for all kinds of them.
pub fn serves_reboots_and_switches_itself_off(machine: Machine) -> Result<()> {
    let machines = Machines::new()?;
    let port = free_port();
    machines.start(machine.set("/ports", json!([format!("{port}:80")])))?;
    let serves = || page(port).is_ok_and(|page| page.ends_with("hello from a system\n"));
    until(serves);
    until(|| {
        let state = inside(&machines, ["systemctl", "is-system-running"]);
        state.is_ok_and(|state| state.stdout() == "degraded\n" && state.status == 1)
    });
    until(|| inside(&machines, ["test", "-e", "/run/looked"]).is_ok_and(|it| it.status == 0));

    let first = inside(
        &machines,
        ["cat", "/proc/1/comm", "/proc/sys/kernel/random/boot_id"],
    )?;
    assert!(first.stdout().starts_with("systemd\n"), "{first}");
    let failed = ["systemctl", "--failed", "--plain", "--no-legend"];
    let failed = inside(&machines, failed)?.stdout();
    assert_eq!(failed, "broken.service loaded failed failed Fails\n");
    let logs = machines.mvm(["logs", "box"])?.stdout();
    assert!(logs.contains("the clock was looked at"), "{logs}");

    inside(&machines, ["systemctl", "reboot"])?;
    until(|| {
        let now = inside(
            &machines,
            ["cat", "/proc/1/comm", "/proc/sys/kernel/random/boot_id"],
        );
        now.is_ok_and(|now| now.status == 0 && now.stdout() != first.stdout())
    });
    until(serves);
    assert_eq!(machines.mvm(["ps", "-q"])?.stdout(), "box\n");

    inside(&machines, ["systemctl", "poweroff"])?;
    assert_eq!(machines.mvm(["wait", "box"])?.stdout(), "0\n");
    Ok(())
}

#[test]
fn one_in_the_foreground_reboots_too_and_its_file_may_have_been_the_standard_input() -> Result<()> {
    let machines = Machines::new()?;
    let mut running = machines.spawn(["run", "-"])?;
    let app = json!({ "name": "box", "memory": "512M", "system": { "path": fixture("system") } });
    running.write_in_background(app.to_string().into_bytes());
    let boot = || inside(&machines, ["cat", "/proc/sys/kernel/random/boot_id"]);
    let is_up =
        || inside(&machines, ["systemctl", "is-active", "web"]).is_ok_and(|it| it.status == 0);
    until(is_up);
    let first = boot()?.success();
    inside(&machines, ["systemctl", "reboot"])?;
    until(|| boot().is_ok_and(|now| now.status == 0 && now.stdout() != first));
    until(is_up);
    inside(&machines, ["systemctl", "poweroff"])?;
    assert_eq!(running.finish()?.status, 0);
    Ok(())
}

#[test]
fn one_that_crashes_has_failed_and_is_started_again_if_its_file_says_so() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(system("box").set("/restart", "on-failure"))?;
    let boot = || inside(&machines, ["cat", "/proc/sys/kernel/random/boot_id"]);
    let is_up =
        || inside(&machines, ["systemctl", "is-active", "web"]).is_ok_and(|it| it.status == 0);
    let crash = || inside(&machines, ["sh", "-c", "echo c > /proc/sysrq-trigger"]);
    until(is_up);
    let first = boot()?.success();
    assert_ne!(crash()?.status, 0);
    until(|| boot().is_ok_and(|now| now.status == 0 && now.stdout() != first));
    assert_eq!(machines.inspect("box")?["restarts"], 1);
    machines.mvm(["rm", "--force", "box"])?;

    machines.start(system("box"))?;
    until(is_up);
    crash()?;
    assert_eq!(machines.mvm(["wait", "box"])?.stdout(), "125\n");
    let why = machines.inspect("box")?["end"]["reason"].to_string();
    assert!(why.contains("panic"), "{why}");
    Ok(())
}

#[test]
fn a_system_is_ready_when_its_first_process_says_so() -> Result<()> {
    is_ready_and_has_its_credentials(system("box"))
}

#[test]
fn on_its_own_kernel_it_is_told_where_to_say_so() -> Result<()> {
    is_ready_and_has_its_credentials(own("box"))
}

pub fn is_ready_and_has_its_credentials(machine: Machine) -> Result<()> {
    let machines = Machines::new()?;
    let machine = machine.set("/secrets/token", json!({ "env": "TOKEN" }));
    let machine = machine.host_env("TOKEN", "hunter2");
    machines.start(machine.set("/ready", "notify").flag("--wait"))?;
    let seen = machines.inspect("box")?;
    assert_eq!(seen["ready"], true, "{seen:#}");
    assert!(seen["statusText"].is_string(), "{seen:#}");
    let state = inside(&machines, ["systemctl", "is-system-running"])?;
    assert_eq!(state.stdout(), "degraded\n");
    let told = inside(&machines, ["cat", "/run/told"])?;
    assert_eq!(told.stdout(), "hunter2", "{told}");
    let words = inside(&machines, ["cat", "/proc/cmdline", "/proc/1/environ"])?;
    assert!(!words.stdout().contains("hunter2"), "{words}");
    assert!(!seen.to_string().contains("hunter2"), "{seen:#}");
    assert!(!machines.mvm(["logs", "box"])?.stdout().contains("hunter2"));
    machines.mvm(["stop", "box"])?.success();
    Ok(())
}

#[test]
fn a_system_in_the_foreground_is_switched_off_by_a_signal() -> Result<()> {
    let mut running = system("box").spawn()?;
    running.wait_for("All of the system")?;
    running.signal(Signal::TERM)?;
    let output = running.finish()?;
    assert_eq!(output.status, 0, "{output}");
    assert!(output.stdout().contains("Stopping"), "{output}");
    Ok(())
}

#[test]
fn what_the_own_stage_1_mounts_is_what_programs_of_the_host_find() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("word"), "of the host\n")?;
    let machines = Machines::new()?;
    machines.start(own("box").share(folder.path(), "/srv"))?;
    until(|| inside(&machines, ["mount", "/srv"]).is_ok_and(|it| it.status == 0));
    let look = "uname -r | sed 's/.*-//'; cut -d' ' -f2,3 /proc/mounts | grep -e '^/ ' -e '/nix' -e '/srv'; \
        cat /srv/word; touch /nix/store/x 2>/dev/null || echo read-only; ls /nix/store | grep -c outside";
    let seen = inside(&machines, ["sh", "-c", look])?.stdout();
    assert_eq!(
        seen,
        "amd64\n/ tmpfs\n/nix/.ro-store virtiofs\n/nix/store virtiofs\n/srv virtiofs\nof the host\nread-only\n0\n"
    );
    machines.mvm(["stop", "box"])?.success();
    Ok(())
}

#[test]
fn a_stage_1_that_ends_is_told_as_a_kernel_that_panicked() -> Result<()> {
    let output = own("box").set("/kernel/cmdline", "init=/nowhere").run()?;
    assert_eq!(output.status, 125);
    assert!(
        output.stdout().contains("there is no stage 2 /nowhere"),
        "{output}"
    );
    assert!(
        output.stderr().contains("Attempted to kill init"),
        "{output}"
    );
    Ok(())
}

#[test]
fn a_system_without_a_kernel_of_its_own_is_told_so() -> Result<()> {
    let path = fixture("system");
    let output = system("box")
        .set("/system", json!({ "path": path, "kernel": "own" }))
        .run()?;
    assert_eq!(output.status, 125);
    let words = format!("cannot find {path}/kernel, which a system with a kernel of its own has");
    assert!(output.stderr().contains(&words), "{output}");
    Ok(())
}

#[test]
fn a_system_and_a_program_are_not_one_machine() -> Result<()> {
    let both = system("box").program(["/bin/sh"]).run()?;
    assert_eq!(both.status, 125);
    assert!(
        both.stderr().contains("must not be given with `system`"),
        "{both}"
    );
    let with_flag = system("box").flag("--entrypoint").flag("/bin/sh").run()?;
    assert_eq!(with_flag.status, 125);
    assert!(
        with_flag
            .stderr()
            .contains("must not be given with `system`"),
        "{with_flag}"
    );
    Ok(())
}
