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

/// What changes a running system, by its fixtures, from `old` to `new` and not back.
fn becomes_another(old: &str, new: &str, kernel: &str, store: &Value) -> Result<()> {
    let (old, new) = (fixture(old), fixture(new));
    let machines = Machines::new()?;
    let folder = tempfile::tempdir()?;
    let port = free_port();
    let write = |name: &str, path: &str| -> Result<String> {
        let file = folder.path().join(name);
        let app = json!({
            "name": "box", "memory": "512M", "ports": [format!("{port}:80")], "store": store,
            "system": { "path": path, "kernel": kernel },
        });
        fs::write(&file, app.to_string())?;
        Ok(file.to_string_lossy().into_owned())
    };
    let (first, second) = (write("old.json", &old)?, write("new.json", &new)?);
    let says = |words: &str| page(port).is_ok_and(|page| page.ends_with(words));
    machines.start(Machine::of_file(&first))?;
    until(|| says("hello from a system\n"));
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
    let current = inside(&machines, ["readlink", "/run/current-system"])?;
    assert_eq!(current.success(), format!("{new}\n"));
    let after: u32 = inside(&machines, listed)?.success().trim().parse()?;
    assert!(after > before, "{before} and {after} paths");
    assert_eq!(machines.inspect("box")?["app"]["system"]["path"], new);
    let again = machines.mvm(["update", "box", &second])?;
    assert_eq!(again.success(), "box: unchanged\n");
    if store["writable"] == true {
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

    Ok(())
}

#[test]
fn a_running_system_becomes_another_without_a_boot() -> Result<()> {
    becomes_another(
        "system",
        "system-next",
        "mvm",
        &json!({ "mode": "closure" }),
    )
}

#[test]
fn so_does_one_whose_nix_knows_its_store() -> Result<()> {
    becomes_another("system", "system-next", "mvm", &json!({ "writable": true }))
}

#[test]
fn so_does_one_on_its_own_kernel() -> Result<()> {
    let store = json!({ "mode": "closure" });
    becomes_another("system-own", "system-own-next", "own", &store)
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
