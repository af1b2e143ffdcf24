//! Systems with nixos-init, whose initrd does what a stage 2 would; mvm does it where they run on its
//! kernel.

use anyhow::Result;
use mvm_test::{Machine, Machines, fixture};
use serde_json::json;

use crate::nixos::{
    inside, is_ready_and_has_its_credentials, serves_reboots_and_switches_itself_off,
    with_own_kernel,
};
use crate::until;

/// One on mvm's kernel. Debian's systemd looks for its own programs outside the store.
fn prepared(system: &str) -> Machine {
    let programs = format!("{}/lib/systemd", fixture("systemd"));
    Machine::of_system("box", &fixture(system))
        .memory_mib(512)
        .share(programs, "/lib/systemd")
}

#[test]
fn a_system_with_nixos_init_does_what_others_do() -> Result<()> {
    serves_reboots_and_switches_itself_off(prepared("system-init"))
}

#[test]
fn on_its_own_kernel_it_does_so_too() -> Result<()> {
    serves_reboots_and_switches_itself_off(with_own_kernel("box", "system-init"))
}

#[test]
fn it_is_ready_when_its_first_process_says_so_and_has_its_credentials() -> Result<()> {
    is_ready_and_has_its_credentials(prepared("system-init"))
}

const LOOK: &str = "
    for link in /run/booted-system /run/current-system /usr/bin/env /bin/sh; do readlink $link; done
    stat -c '%a %u %n' /etc /etc/passwd /etc/secret /etc/systemd
    cat /etc/secret; head -n 1 /etc/systemd/system/web.service
    grep -e ' /etc ' -e metadata /proc/mounts | cut -d' ' -f 2,3
    echo changed >> /etc/secret; rm /etc/os-release; mkdir /etc/own
    cat /etc/secret; ls -A /.rw-etc/upper | grep -e ^os -e ^own -e ^sec
    touch /nix/store/x 2> /dev/null || echo read-only
";

fn finds_what_is_outside_the_store(machine: Machine) -> Result<()> {
    let machines = Machines::new()?;
    machines.start(machine)?;
    until(|| inside(&machines, ["systemctl", "is-active", "web"]).is_ok_and(|it| it.status == 0));
    let seen = inside(&machines, ["sh", "-c", LOOK])?;
    let system = fixture("system-init");
    let sw = std::fs::read_link(format!("{system}/sw"))?;
    let sw = sw.display();
    let expected = format!(
        "{system}\n{system}\n{sw}/bin/env\n{sw}/bin/sh\n\
         755 0 /etc\n644 0 /etc/passwd\n600 0 /etc/secret\n755 0 /etc/systemd\n\
         of the system\n[Unit]\n\
         /run/nixos-etc-metadata erofs\n/etc overlay\n\
         of the system\nchanged\nos-release\nown\nsecret\nread-only\n"
    );
    assert_eq!(seen.success(), expected);
    machines.mvm(["stop", "box"])?.success();
    Ok(())
}

#[test]
fn its_programs_find_what_is_outside_the_store() -> Result<()> {
    // Where Nix adds to it, the system itself sees the store as its configuration says.
    let store = json!({ "writable": true });
    finds_what_is_outside_the_store(prepared("system-init").set("/store", store))
}

#[test]
fn they_find_the_same_on_its_own_kernel() -> Result<()> {
    finds_what_is_outside_the_store(with_own_kernel("box", "system-init"))
}

#[test]
fn an_etc_that_is_fixed_stays_what_it_is() -> Result<()> {
    let machines = Machines::new()?;
    machines.start(prepared("system-init-fixed"))?;
    until(|| inside(&machines, ["systemctl", "is-active", "web"]).is_ok_and(|it| it.status == 0));
    let look = "cat /etc/secret; touch /etc/own 2>&1; ls -d /.rw-etc 2>&1";
    let seen = inside(&machines, ["sh", "-c", look])?;
    assert_eq!(
        seen.stdout(),
        "of the system\ntouch: /etc/own: Read-only file system\n\
         ls: /.rw-etc: No such file or directory\n"
    );
    machines.mvm(["stop", "box"])?.success();
    Ok(())
}

#[test]
fn on_a_volume_what_is_written_to_etc_is_kept_beside_what_the_next_system_has() -> Result<()> {
    let machines = Machines::new()?;
    let start = |system: &str| -> Result<()> {
        let kept = prepared(system).set("/root/persist", "root");
        machines.start(kept.set("/volumes/0", json!({ "name": "root", "size": "64M" })))?;
        until(|| {
            inside(&machines, ["systemctl", "is-active", "web"]).is_ok_and(|it| it.status == 0)
        });
        Ok(())
    };
    start("system-init")?;
    let script = "mkdir /etc/later; echo own > /etc/later/own; rm /etc/os-release; \
        for file in secret resolv.conf; do echo old > /etc/$file; done";
    inside(&machines, ["sh", "-c", script])?.success();
    machines.mvm(["stop", "box"])?.success();
    machines.mvm(["rm", "box"])?.success();
    start("system-init-next")?;
    // Without a network there are no name servers.
    let script = "cat /etc/later/own /etc/later/theirs /etc/secret /etc/resolv.conf; ls /etc/os-release 2>&1; stat -c %a /etc/secret";
    let seen = inside(&machines, ["sh", "-c", script])?;
    assert_eq!(
        seen.success(),
        "own\nof the system\nold\nls: /etc/os-release: No such file or directory\n600\n"
    );
    machines.mvm(["stop", "box"])?.success();
    Ok(())
}
