//! A system that runs becomes another one, and its Nix knows its store.

use std::fs;
use std::path::Path;

use anyhow::Result;
use mvm_test::{Machine, Machines, Output, fixture};
use serde_json::{Value, json};

use crate::network::free_port;
use crate::nixos::page;
use crate::until;

fn inside<const N: usize>(machines: &Machines, command: [&str; N]) -> Result<Output> {
    machines.mvm(["exec", "box"].into_iter().chain(command))
}

/// What changes a running system, by its fixtures, from `old` to `new` and not back, with `more` in its
/// app.json. Returns it as it runs then.
fn becomes_another(old: &str, new: &str, more: &Value) -> Result<Machines> {
    let (old, new) = (fixture(old), fixture(new));
    let machines = Machines::new()?;
    let folder = tempfile::tempdir()?;
    let port = free_port();
    let write = |name: &str, path: &str| -> Result<String> {
        let file = folder.path().join(name);
        let mut app = more.clone();
        app["name"] = "box".into();
        app["memory"] = "512M".into();
        app["ports"] = json!([format!("{port}:80")]);
        app["system"]["path"] = path.into();
        fs::write(&file, app.to_string())?;
        Ok(file.to_string_lossy().into_owned())
    };
    let (first, second) = (write("old.json", &old)?, write("new.json", &new)?);
    let says = |words: &str| page(port).is_ok_and(|page| page.ends_with(words));
    machines.start(Machine::of_file(&first))?;
    until(|| says("hello from a system\n"));
    inside(&machines, ["sh", "-c", "echo before > /etc/written"])?.success();
    let boot = ["cat", "/proc/sys/kernel/random/boot_id"];
    let booted = inside(&machines, boot)?.success();
    // What is looked for and listed now is remembered.
    assert_ne!(inside(&machines, ["ls", &new])?.status, 0);
    let listed = ["sh", "-c", "ls /nix/store | wc -l"];
    let before: u32 = inside(&machines, listed)?.success().trim().parse()?;

    let done = machines.mvm(["update", "box", &second])?;
    let text = done.success();
    assert!(
        text.starts_with("activating the configuration...\n"),
        "{done}"
    );
    assert!(text.ends_with("\nbox: switched\n"), "{done}");
    until(|| says("hello from the next system\n"));
    assert_eq!(inside(&machines, boot)?.success(), booted);
    let written = inside(&machines, ["cat", "/etc/written"])?;
    assert_eq!(written.success(), "before\n");
    let current = inside(&machines, ["readlink", "/run/current-system"])?;
    assert_eq!(current.success(), format!("{new}\n"));
    let after: u32 = inside(&machines, listed)?.success().trim().parse()?;
    assert!(after > before, "{before} and {after} paths");
    assert_eq!(machines.inspect("box")?["app"]["system"]["path"], new);
    let again = machines.mvm(["update", "box", &second])?;
    assert_eq!(again.success(), "box: unchanged\n");
    if more["store"]["writable"] == true {
        let known = inside(&machines, ["nix-store", "--check-validity", &new])?;
        assert_eq!(known.status, 0, "{known}");
    }

    inside(&machines, ["touch", "/run/refuse-the-switch"])?.success();
    let failed = machines.mvm(["update", "box", &first])?;
    assert_eq!(
        (failed.status, failed.stdout()),
        (4, "a unit failed to start\n".into())
    );
    let words = "ended with status 4; the machine's file stays what it was";
    assert!(failed.stderr().contains(words), "{failed}");
    assert_eq!(machines.inspect("box")?["app"]["system"]["path"], new);

    Ok(machines)
}

#[test]
fn a_running_system_becomes_another_without_a_boot() -> Result<()> {
    becomes_another("system", "system-next", &json!({})).map(drop)
}

#[test]
fn so_does_one_whose_nix_knows_its_store() -> Result<()> {
    let writable = json!({ "store": { "writable": true } });
    becomes_another("system", "system-next", &writable).map(drop)
}

#[test]
fn so_does_one_on_its_own_kernel() -> Result<()> {
    let own = json!({ "system": { "kernel": "own" } });
    becomes_another("system-own", "system-own-next", &own).map(drop)
}

#[test]
fn so_does_one_with_nixos_init_whose_etc_is_another_then() -> Result<()> {
    let programs = format!("{}/lib/systemd", fixture("systemd"));
    let shares = json!({ "shares": [{ "source": programs, "mountPoint": "/lib/systemd" }] });
    let machines = becomes_another("system-init", "system-init-next", &shares)?;
    let look = "cat /etc/later/theirs; grep -e ' /etc' -e metadata /proc/mounts | cut -d' ' -f 3";
    let seen = inside(&machines, ["sh", "-c", look])?;
    assert_eq!(seen.success(), "of the system\nerofs\noverlay\n");
    Ok(())
}

#[test]
fn another_kernel_takes_a_boot() -> Result<()> {
    let machines = Machines::new()?;
    let folder = tempfile::tempdir()?;
    let write = |name: &str, path: &str| -> Result<_> {
        let file = folder.path().join(name);
        let system = json!({ "path": path, "kernel": "own" });
        let app = json!({ "name": "box", "memory": "512M", "system": system });
        fs::write(&file, app.to_string())?;
        Ok(file)
    };
    let word = |path: &Path| path.to_string_lossy().into_owned();
    let (first, second) = (
        write("old.json", &fixture("system-own"))?,
        write("new.json", &fixture("system-init"))?,
    );
    machines.start(Machine::of_file(&first))?;
    let done = machines.mvm(["update", "box", "-t", "60", &word(&second)])?;
    let expected = "box: restarted, since its initrd is another\n";
    assert_eq!(done.success(), expected);
    Ok(())
}

#[test]
fn the_store_of_a_system_is_registered_before_it_is_activated() -> Result<()> {
    let mut running = Machine::of_system("box", &fixture("system"))
        .memory_mib(512)
        .set("/store", json!({ "writable": true }))
        .spawn()?;
    running.wait_for("this system is valid")?;
    running.wait_for("All of the system")?;
    running.signal(mvm_test::Signal::TERM)?;
    assert_eq!(running.finish()?.status, 0);
    Ok(())
}
