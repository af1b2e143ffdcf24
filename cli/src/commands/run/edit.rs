//! The flags that say what a machine is, as edits of what its file says.

use std::path::PathBuf;

use anyhow::{Context, bail};
use vmm::app::{App, CpuQuota, MAX_VCPUS, Port, Restart};

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
    /// Processors, instead of `vcpus`; 1.5 is two that get the time of one and a half, as
    /// `limits.cpu` says
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory of the guest such as 512M, instead of `memory`; `limits.memory` is for the monitor, too
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    /// Set a variable of the program's environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Have a port of the host lead to one of the machine, besides those of `ports`; without a number
    /// for the host one is picked
    #[arg(long, short, value_name = "[ADDRESS:][HOST]:GUEST[/udp]")]
    publish: Vec<Port>,
    /// Whether the machine is started again when it has ended in the background, instead of
    /// `restart`: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
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
            set_cpus(app, cpus)?;
        }
        if let Some(restart) = &self.restart {
            app.restart.clone_from(restart);
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

/// As many processors as hold that much time, and the time where it is not all of theirs.
fn set_cpus(app: &mut App, cpus: f64) -> anyhow::Result<()> {
    let whole = (1..=MAX_VCPUS).find(|vcpus| f64::from(*vcpus) >= cpus);
    let (Some(vcpus), Some(quota)) = (whole, CpuQuota::from_processors(cpus)) else {
        bail!("--cpus: must be from 0.01 to {MAX_VCPUS} in whole hundredths, is {cpus}");
    };
    app.vcpus = vcpus;
    app.limits.cpu = (f64::from(vcpus) > cpus).then_some(quota);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_processor_is_a_whole_one_with_a_quota() {
        let mut app = App::new("a", vec!["sh".into()]);
        let mut set = |cpus| {
            set_cpus(&mut app, cpus).map(|()| (app.vcpus, app.limits.cpu.map(CpuQuota::percent)))
        };
        assert_eq!(set(1.5).unwrap(), (2, Some(150)));
        assert_eq!(set(3.0).unwrap(), (3, None));
        assert_eq!(set(0.25).unwrap(), (1, Some(25)));
        for bad in [0.0, -1.0, 0.001, 65.0, f64::NAN, f64::INFINITY] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }
}
