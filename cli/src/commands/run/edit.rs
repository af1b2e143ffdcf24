//! The flags that say what a machine is, as edits of what its file says.

use std::path::PathBuf;

use anyhow::{Context, bail};
use vmm::app::{App, Port};

use crate::environment;

/// Flags of each command that makes a machine.
#[derive(Debug, clap::Args)]
pub struct Edits {
    /// Arguments for the program instead of `app.args`
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
    /// Name of the machine, instead of `name`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Number of processors, instead of `vcpus`
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory such as 512M, instead of `memory`
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Set a variable of the program's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Have a port of the host lead to one of the machine, besides those of `ports`; without a number
    /// for the host one is picked
    #[arg(long, short, value_name = "[ADDRESS:][HOST]:GUEST[/udp]")]
    publish: Vec<Port>,
    /// Kernel to boot, instead of `kernel.path`
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
}

impl Edits {
    /// The name that was asked for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Applies the flags and checks the result.
    pub fn apply(&self, app: &mut App) -> anyhow::Result<()> {
        if let Some(name) = &self.name {
            app.name.clone_from(name);
        }
        if !self.arguments.is_empty() {
            app.app.args.clone_from(&self.arguments);
        }
        if let Some(cpus) = self.cpus {
            app.vcpus = cpus;
        }
        if let Some(memory) = &self.memory {
            app.memory = memory
                .parse()
                .map_err(|error| anyhow::anyhow!("--memory: {error}"))?;
        }
        if let Some(kernel) = &self.kernel {
            app.kernel.path =
                Some(std::path::absolute(kernel).context("--kernel: cannot find it")?);
        }
        app.ports.extend(self.publish.iter().cloned());
        environment::set(&mut app.app.env, &self.env)?;
        match app.check().first() {
            Some(complaint) => bail!("{complaint}"),
            None => Ok(()),
        }
    }
}
