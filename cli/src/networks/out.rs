//! A machine's way out, which costs next to nothing before the machine takes it.

use std::ffi::OsString;

use anyhow::{Context, Result};
use rustix::process::setsid;

use crate::lasting;

/// Has passt started with `arguments` once the machine whose frames come on standard input needs it; by
/// another process if it is to `detach`, so that nobody has to wait for that one's end.
///
/// # Errors
/// The host has no process left, or passt does not start.
pub fn lead_out(detach: bool, arguments: &[OsString]) -> Result<()> {
    if !detach {
        // Ctrl-C is for the machine, which may go on.
        setsid().context("cannot leave the terminal")?;
        return vmm::net::start_later(arguments.to_vec());
    }
    let mut command = lasting::command_here()?;
    command.args(["network", "later", "--"]).args(arguments);
    command.spawn().context("cannot start a process")?;
    Ok(())
}
