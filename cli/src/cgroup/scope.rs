//! A control group that systemd delegates to this process alone: a transient scope.
//!
//! The manager is asked by `busctl`, which comes with it, rather than by a D-Bus library: it is one
//! call, and made only where limits are asked for in a group that others are in.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::place;
use crate::systemd;

/// For the manager to move this process, which it does when it has answered.
const ATTEMPTS: u32 = 400;
const PAUSE: Duration = Duration::from_millis(5);

/// Has this process moved into a scope of that slice, unless it is a service in it.
///
/// # Errors
/// It is a service elsewhere, there is no systemd, or it refuses.
pub fn enter_slice(name: &str, slice: &str) -> Result<()> {
    let own = place::own()?;
    if own.iter().any(|folder| folder == slice) {
        return Ok(());
    }
    ensure!(
        !systemd::is_service(),
        "this unit needs `Slice={slice}`, it is in {}",
        own.display()
    );
    enter(name, Some(slice))
}

/// Has this process moved into a scope of its own, in `slice` or where its user's are.
///
/// # Errors
/// There is no systemd, or it refuses.
pub fn enter(name: &str, slice: Option<&str>) -> Result<()> {
    if !systemd::is_booted() {
        bail!(
            "limits need a control group that is delegated to mvm alone, and no systemd runs to give one"
        );
    }
    ensure!(
        !systemd::is_service(),
        "this unit needs `Delegate=yes`, and no other program beside mvm"
    );
    let before = place::own()?;
    ask(name, slice)?;
    for _ in 0..ATTEMPTS {
        if place::own()? != before {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    bail!("systemd did not move mvm into a scope of its own")
}

fn ask(name: &str, slice: Option<&str>) -> Result<()> {
    let pid = std::process::id().to_string();
    let unit = format!("mvm-{name}-{pid}.scope");
    let manager = if rustix::process::getuid().is_root() {
        "--system"
    } else {
        "--user"
    };
    let description = format!("Machine {name}");
    let output = Command::new("busctl")
        .args([manager, "--quiet", "call", "org.freedesktop.systemd1"])
        .args([
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
        ])
        .args(["StartTransientUnit", "ssa(sv)a(sa(sv))", &unit, "fail"])
        .arg(if slice.is_some() { "5" } else { "4" })
        .args(["PIDs", "au", "1", &pid])
        .args(["Delegate", "b", "true"])
        .args(["CollectMode", "s", "inactive-or-failed"])
        .args(["Description", "s", &description])
        .args(slice.iter().flat_map(|slice| ["Slice", "s", slice]))
        .arg("0")
        .stdin(Stdio::null())
        .output()
        .context("cannot start busctl to ask systemd for a scope")?;
    ensure!(
        output.status.success(),
        "systemd gives no scope: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
