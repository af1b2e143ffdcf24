//! What is done in a machine before its program starts, beyond its file systems: what stage 1 of a
//! system would do last, and the paths of its store made known to its Nix.
//!
//! The one thing to know: each step is a program in the guest, run to its end before the next.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest::protocol::Exec;
use vmm::app::{App, System, SystemKernel};

use crate::agent;
use crate::attach::{Connection, Outcome, observe};
use crate::registration::Registration;

/// For one step. Far above what the slowest host needs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Carries the steps out.
///
/// # Errors
/// One has failed.
pub fn carry_out(
    app: &App,
    registration: Option<&Registration>,
    guest: &mut Connection,
) -> Result<()> {
    if let Some(Registration { role, text }) = registration {
        let exec = Exec {
            stdin: true,
            ..agent::execution(role.iter().map(Into::into))
        };
        run(guest, &exec, text.as_bytes(), false).context("cannot register the closure")?;
    }
    let system = app.system.as_ref();
    let system = system.filter(|system| system.kernel == SystemKernel::Mvm);
    let script = system.map(System::prepare_root);
    // Of a system whose stage 1 would be systemd. Whether a bundle has it only the guest can tell.
    let may_be = |script: &String| app.bundle.is_some() || Path::new(script).exists();
    let Some(script) = script.filter(may_be) else {
        return Ok(());
    };
    let exec = Exec {
        argv: vec![script.as_str().into()],
        env: vec!["IN_NIXOS_SYSTEMD_STAGE1=true".into()],
        ..Exec::default()
    };
    let is_optional = app.bundle.is_some();
    run(guest, &exec, &[], is_optional).with_context(|| format!("cannot run {script}"))
}

/// Runs a program, which may be missing if it `is_optional`.
fn run(guest: &mut Connection, exec: &Exec, input: &[u8], is_optional: bool) -> Result<()> {
    let (outcome, said) = observe(guest, exec, input, Instant::now() + TIMEOUT)?;
    if is_optional && matches!(outcome, Outcome::Refused { code: 127, .. }) {
        return Ok(());
    }
    if outcome.status() != 0 {
        let said = String::from_utf8_lossy(&said);
        bail!("it failed ({}): {}", outcome.status(), said.trim_end());
    }
    Ok(())
}
