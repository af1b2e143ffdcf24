//! Machines in the background, and the commands that have to do with them.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::output::Output;
use crate::running::{Files, Running};
use crate::terminal::{self, Size};

/// For one command. Above what the slowest host needs.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A set of machines that no other command sees. What is left of it goes when it is dropped.
pub struct Machines {
    folder: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl Machines {
    /// A set without machines.
    ///
    /// # Errors
    /// There is no room for its folders.
    pub fn new() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("mvm-test.").context("cannot make a folder")?;
        Ok(Self {
            folder,
            variables: Vec::new(),
        })
    }

    /// Has the commands, but not those that start a [`Machine`], see an environment variable.
    #[must_use]
    pub fn host_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    /// Has machines in the foreground belong to it, too.
    #[must_use]
    pub fn own(&self, machine: Machine) -> Machine {
        let machine = machine.host_env("MVM_RUNTIME_DIR", self.folder.path().join("run"));
        machine.host_env("MVM_STATE_DIR", self.state())
    }

    /// Starts a machine in the background.
    ///
    /// # Errors
    /// `mvm run --detach` fails.
    pub fn start(&self, machine: Machine) -> anyhow::Result<()> {
        let output = self.own(machine).flag("--detach").run()?;
        ensure!(output.status == 0, "cannot start a machine:\n{output}");
        Ok(())
    }

    /// Carries one command out.
    ///
    /// # Errors
    /// It cannot be started, or takes too long.
    pub fn mvm<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Output> {
        let mut running = self.spawn(arguments)?;
        running.close_stdin();
        running.finish()
    }

    /// Starts one command with three pipes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Running> {
        let command = self.command(Command::new(crate::mvm()), arguments);
        Running::with_pipes(command, Files::none()?, TIMEOUT)
    }

    /// Starts one command on a terminal of that size.
    ///
    /// # Errors
    /// It cannot be started, or there is no terminal.
    pub fn spawn_on_terminal<S: AsRef<OsStr>>(
        &self,
        rows: u16,
        columns: u16,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Running> {
        let (command, terminal) = terminal::leader(Size { rows, columns })?;
        let command = self.command(command, arguments);
        Running::with_terminal(command, terminal, Files::none()?, TIMEOUT)
    }

    /// Where what outlives a run is kept.
    pub fn state(&self) -> impl AsRef<Path> + AsRef<OsStr> + use<> {
        self.folder.path().join("state")
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        mut command: Command,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        command.args(arguments);
        command.env("MVM_RUNTIME_DIR", self.folder.path().join("run"));
        command.env("MVM_STATE_DIR", self.state());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let Ok(names) = self.mvm(["ps", "--all", "--quiet"]) else {
            return;
        };
        let names = names.stdout();
        if names.is_empty() {
            return;
        }
        let remove = ["rm", "--force"].into_iter().chain(names.lines());
        let mut command = self.command(Command::new(crate::mvm()), remove);
        // A test that failed says more than this could.
        let _ = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
