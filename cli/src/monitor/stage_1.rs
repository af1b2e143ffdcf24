//! What is done in a machine before its program starts, beyond its file systems: the paths of its
//! store made known to its Nix, and what the stage 1 of a system would do last.
//!
//! The one thing to know: each step is a role of `mvm-init`, run to its end before the next.

use anyhow::{Context, Result};
use guest::system::PREPARE;
use vmm::app::{App, SystemKernel};
use vmm::volume;

use crate::agent;
use crate::attach::Connection;
use crate::registration::Registration;

/// Carries the steps out.
///
/// # Errors
/// One has failed.
pub fn carry_out(
    app: &App,
    registration: Option<&Registration>,
    guest: &mut Connection,
) -> Result<()> {
    if let Some(registration) = registration {
        registration.carry_out(guest)?;
    }
    let system = app.system.as_ref();
    let Some(system) = system.filter(|system| system.kernel == SystemKernel::Mvm) else {
        return Ok(());
    };
    let role = [PREPARE.to_owned(), system.path.clone()].into_iter();
    let role = role.chain(app.root_volume().map(volume::serial));
    agent::complete(guest, role.map(Into::into), &[])
        .with_context(|| format!("cannot prepare the root of {}", system.path))
}
