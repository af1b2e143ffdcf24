//! What the verbs take that do something else than runc's, and the same for runc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::oci::container::Container;
use crate::oci::process::Words;

/// What `create` and `run` take.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Create {
    /// The folder of config.json; by default the current one
    #[arg(long, short, value_name = "FOLDER")]
    pub bundle: Option<PathBuf>,
    #[command(flatten)]
    handover: Handover,
    /// Do not change the root by `pivot_root`
    #[arg(long)]
    no_pivot: bool,
    /// Leave the session's keyring as it is
    #[arg(long)]
    no_new_keyring: bool,
    /// With `run`: return once it runs
    #[arg(long, short)]
    detach: bool,
    /// With `run`: leave what is known of the container when it has ended
    #[arg(long)]
    keep: bool,
    /// With `run`: do not wait for descendants
    #[arg(long)]
    no_subreaper: bool,
    /// What it is called
    pub id: String,
}

/// What of a process goes to who starts it, and the other way round.
#[derive(Debug, clap::Args)]
struct Handover {
    /// Where the number of the process is written
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// A socket that its terminal is sent to
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A socket that a descriptor of the process is sent to
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Have so many more descriptors passed to the process
    #[arg(long, value_name = "NUMBER")]
    preserve_fds: Option<u32>,
}

impl Handover {
    fn add_to(&self, line: &mut Line) {
        line.value("--pid-file", self.pid_file.as_ref());
        line.value("--console-socket", self.console_socket.as_ref());
        line.value("--pidfd-socket", self.pidfd_socket.as_ref());
        let fds = self.preserve_fds.map(|fds| fds.to_string());
        line.value("--preserve-fds", fds);
    }
}

/// What `exec` takes.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Exec {
    /// A file that says the process; else it is said by the flags and the words behind the container
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    #[command(flatten)]
    handover: Handover,
    /// Return once it runs
    #[arg(long, short)]
    detach: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Its folder
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// A variable of its environment
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Who it runs as
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A further group
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Also in a container that is paused
    #[arg(long)]
    ignore_paused: bool,
    /// Taken for runc: the machine's program is bound by the machine
    #[arg(long)]
    no_new_privs: bool,
    /// Taken for runc, and not used
    #[arg(long, short, value_name = "NAME")]
    cap: Vec<String>,
    /// Taken for runc, and not used
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Taken for runc, and not used
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// The control group below the container's that it is in
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// The container
    pub id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Words of a command line, flag by flag.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str, is_set: bool) {
        self.0.extend(is_set.then(|| flag.into()));
    }

    fn value(&mut self, flag: &str, value: Option<impl Into<OsString>>) {
        if let Some(value) = value {
            self.0.extend([flag.into(), value.into()]);
        }
    }
}

impl Create {
    /// The same for runc, with another bundle.
    pub fn line(&self, verb: &str, bundle: &Path) -> Vec<OsString> {
        let mut line = Line(vec![verb.into()]);
        line.value("--bundle", Some(bundle));
        self.handover.add_to(&mut line);
        line.flag("--no-pivot", self.no_pivot);
        line.flag("--no-new-keyring", self.no_new_keyring);
        line.flag("--detach", self.detach);
        line.flag("--keep", self.keep);
        line.flag("--no-subreaper", self.no_subreaper);
        line.0.push((&self.id).into());
        line.0
    }
}

impl Exec {
    /// The same for runc, with that file.
    pub fn line(&self, process: Option<&Path>) -> Vec<OsString> {
        let mut line = Line(vec!["exec".into()]);
        line.value("--process", process.or(self.process.as_deref()));
        self.handover.add_to(&mut line);
        line.flag("--detach", self.detach);
        line.flag("--ignore-paused", self.ignore_paused);
        for group in &self.cgroup {
            line.value("--cgroup", Some(group));
        }
        if process.is_none() {
            line.flag("--tty", self.tty);
            line.flag("--no-new-privs", self.no_new_privs);
            line.value("--cwd", self.cwd.as_ref());
            line.value("--user", self.user.as_ref());
            line.value("--process-label", self.process_label.as_ref());
            line.value("--apparmor", self.apparmor.as_ref());
            for entry in &self.env {
                line.value("--env", Some(entry));
            }
            for group in &self.additional_gids {
                line.value("--additional-gids", Some(group.to_string()));
            }
            for cap in &self.cap {
                line.value("--cap", Some(cap));
            }
        }
        line.0.push((&self.id).into());
        if process.is_none() {
            line.0.extend(self.command.iter().map(Into::into));
        }
        line.0
    }

    /// What it says of the process.
    pub fn process(&self, container: &Container) -> Result<Value> {
        if let Some(path) = &self.process {
            return crate::oci::read(path);
        }
        ensure!(
            !self.command.is_empty(),
            "exec: name the program to run behind the container"
        );
        let words = Words {
            args: self.command.clone(),
            env: self.env.clone(),
            user: self.user.clone(),
            cwd: self.cwd.clone(),
            groups: self.additional_gids.clone(),
            terminal: self.tty,
        };
        words.process(container)
    }
}
