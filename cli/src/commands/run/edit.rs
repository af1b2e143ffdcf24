//! The flags that say what a machine is, as edits of what its file says.

mod complaint;
mod files;
mod mount;
mod network;
mod ports;
mod program;

use std::path::PathBuf;

use anyhow::{Context, bail};
use vmm::app::{App, CpuQuota, Duration, MAX_VCPUS, Policy, Program, Restart, Signal, Tty};

use crate::image;
pub use complaint::ensure_none;
pub use files::FileFlags;
use network::NetworkFlags;
use ports::PortFlags;
pub use ports::published;
pub use program::ProgramFlags;

/// Flags of each command that makes a machine.
#[derive(Debug, clap::Args)]
pub struct Edits {
    /// Arguments for the program instead of `app.args`
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
    /// Keep the program's input open in the background, for `mvm attach`; the same as `app.stdin`. In the
    /// foreground it always has that of this command
    #[arg(long, short)]
    interactive: bool,
    /// Give the program a terminal, also in the background; the same as `app.tty`
    #[arg(long, short)]
    tty: bool,
    #[command(flatten)]
    program: ProgramFlags,
    /// What the program is asked to end with, instead of `app.stopSignal`
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// How long it may take to end then, instead of `stopTimeout`
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Name of the machine, instead of `name`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Name of the machine in itself, instead of `hostname`
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// A word about the machine that `mvm ps --filter` looks for, besides `labels`
    #[arg(long, short, value_name = "NAME[=TEXT]")]
    label: Vec<String>,
    /// Processors, instead of `vcpus`; 1.5 is two that get the time of one and a half, as
    /// `limits.cpu` says
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Memory of the guest such as 512M, instead of `memory`; `limits.memory` is for the monitor, too
    #[arg(long, short, value_name = "SIZE")]
    memory: Option<String>,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    ports: PortFlags,
    #[command(flatten)]
    network: NetworkFlags,
    /// Whether the machine is started again when it has ended, instead of `restart`: no,
    /// on-failure[:N], always or unless-stopped. Only a machine in the background is
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// Do without the checks of `healthcheck`, or of the image
    #[arg(long)]
    no_healthcheck: bool,
    /// Kernel to boot, instead of `kernel.path`
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
}

impl Edits {
    /// The name that was asked for.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether --restart asks for a machine that is started again.
    pub fn restarts(&self) -> bool {
        let policy = self.restart.as_ref().map(|restart| restart.policy);
        policy.is_some_and(|policy| policy != Policy::No)
    }

    /// Applies the flags and checks the result.
    pub fn apply(&self, app: &mut App) -> anyhow::Result<()> {
        if let Some(name) = &self.name {
            app.name.clone_from(name);
        }
        if let Some(hostname) = &self.hostname {
            app.hostname = Some(hostname.clone());
        }
        add_labels(app, &self.label);
        self.set_program(&mut app.app)?;
        let stop_timeout = match &mut app.system {
            Some(system) => &mut system.stop_timeout,
            None => &mut app.app.stop_timeout,
        };
        *stop_timeout = self.stop_timeout.map(Duration::from_secs).or(*stop_timeout);
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
        if self.no_healthcheck {
            app.healthcheck = None;
        }
        self.ports.apply(app)?;
        self.network.apply(app);
        self.files.apply(app)?;
        // Now that it is known what else is mounted.
        image::settle(app)?;
        ensure_none(app)
    }

    fn set_program(&self, program: &mut Program) -> anyhow::Result<()> {
        program.stop_signal = self.stop_signal.or(program.stop_signal);
        program.stdin |= self.interactive;
        if self.tty {
            program.tty = Tty::Always;
        }
        self.program.apply(&self.arguments, program)
    }
}

/// Adds words about the machine, each a name or `NAME=TEXT`.
pub fn add_labels(app: &mut App, labels: &[String]) {
    for label in labels {
        let (name, text) = label.split_once('=').unwrap_or((label, ""));
        app.labels.insert(name.into(), text.into());
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
mod tests;
