//! The flags of `mvm run`, as edits of what the file says.

use anyhow::{Context, bail};
use vmm::app::App;

use super::Args;

/// Applies the flags and checks the result.
pub fn apply(args: &Args, app: &mut App) -> anyhow::Result<()> {
    if !args.arguments.is_empty() {
        app.app.args.clone_from(&args.arguments);
    }
    if let Some(cpus) = args.cpus {
        app.vcpus = cpus;
    }
    if let Some(memory) = &args.memory {
        app.memory = memory
            .parse()
            .map_err(|error| anyhow::anyhow!("--memory: {error}"))?;
    }
    if let Some(kernel) = &args.kernel {
        app.kernel.path = Some(std::path::absolute(kernel).context("--kernel: cannot find it")?);
    }
    for variable in &args.env {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (variable.as_str(), std::env::var(variable).ok()),
        };
        if name.is_empty() {
            bail!("--env: must be NAME=VALUE or NAME, is {variable:?}");
        }
        app.app.env.insert(name.into(), value);
    }
    match app.check().first() {
        Some(complaint) => bail!("{complaint}"),
        None => Ok(()),
    }
}
