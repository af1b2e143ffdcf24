//! Starting a kept machine in the background: a process of its own, which outlives this one.
//!
//! The one thing to know: whoever starts it waits until the program runs, so what is wrong is told
//! to the user and not only to a log.

use std::env;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use vmm::app::Policy;

use crate::control::message::{receive, send};
use crate::logs;
use crate::machines::record::End;
use crate::machines::{Record, Running};
use crate::monitor::{self, Start, Streams};
use crate::places;
use crate::secrets::{self, Secrets};
use crate::systemd::Sockets;

/// What the process tells whoever started it, in this order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// The program runs.
    Started,
    /// The machine has ended.
    Ended(End),
}

/// What a process in the background does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a machine.
    Monitor,
    /// It is a machine, below a supervisor that has its folder.
    Supervised,
    /// It starts a machine again and again, as the policy says.
    Supervisor,
}

/// Starts the machine for a user, with the values of its secrets. Returns its end if the program could not be run.
///
/// # Errors
/// The process could not be started, or was killed.
pub fn start(record: &Record, secrets: &Secrets) -> Result<Option<End>> {
    let app = record.app_file()?.app;
    record.set_stopped(false)?;
    record.set_restarts(0)?;
    let role = match app.restart.policy {
        Policy::No if app.system.is_none() => Role::Monitor,
        // A system may reboot.
        _ => Role::Supervisor,
    };
    let mut process = Process::start(record, role, secrets)?;
    match process.hear()? {
        Told::Started => Ok(None),
        Told::Ended(end) => {
            // It is about to, and shall be gone when this command is.
            process.wait();
            Ok(Some(end))
        }
    }
}

/// A process in the background, as whoever started it has it.
pub struct Process {
    name: String,
    log: std::path::PathBuf,
    child: Child,
    socket: UnixStream,
}

impl Process {
    /// Starts one for the machine of `record`, and hands it the secrets.
    ///
    /// # Errors
    /// The host has no process left, or its log cannot be written.
    pub fn start(record: &Record, role: Role, secrets: &Secrets) -> Result<Self> {
        let name = record.name();
        let program = env::current_exe().context("cannot tell where mvm is")?;
        let (socket, there) = UnixStream::pair().context("cannot make a socket pair")?;
        places::private(&record.logs())?;
        let log = logs::monitor(&record.logs());
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(&log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = Command::new(program);
        for variable in secrets::variables(&record.app_file()?.app) {
            command.env_remove(variable);
        }
        let word = match role {
            Role::Monitor | Role::Supervised => "monitor",
            Role::Supervisor => "supervise",
        };
        command.args([word, &name]);
        if role == Role::Supervised {
            command.arg("--supervised");
        }
        let child = command
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(file))
            .spawn()
            .context("cannot start a process")?;
        // One that has died by now is told of when it is heard.
        let _ = send(&socket, secrets);
        Ok(Self {
            name,
            log,
            child,
            socket,
        })
    }

    /// What it tells next.
    ///
    /// # Errors
    /// It has died without a word.
    pub fn hear(&mut self) -> Result<Told> {
        if let Ok(told) = receive(&self.socket) {
            return Ok(told);
        }
        let status = self.child.wait().context("cannot wait for a process")?;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let name = &self.name;
        Err(match log.lines().last() {
            Some(line) => anyhow!("{}", line.strip_prefix("mvm: ").unwrap_or(line)),
            None => anyhow!("the process of machine {name} ended ({status}) and said nothing"),
        })
    }

    /// Waits until it has gone.
    pub fn wait(mut self) {
        // One that was waited for has gone.
        let _ = self.child.wait();
    }
}

/// Becomes a process in the background. Returns the socket to whoever started it, and the secrets.
///
/// # Errors
/// Nobody has started it.
pub fn settle() -> Result<(UnixStream, Secrets)> {
    // Away from the terminal and the folder of whoever started it.
    rustix::process::setsid().context("cannot leave the terminal")?;
    env::set_current_dir("/").context("cannot change to /")?;
    let starter = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("there is no socket")?;
    let starter = UnixStream::from(starter);
    let secrets = receive(&starter).context("nobody says what the secrets are")?;
    Ok((starter, secrets))
}

/// Is a machine: standard input is the socket to whoever started it.
///
/// # Errors
/// The machine failed. That has been told and noted, too.
pub fn carry_out(name: &str, is_supervised: bool) -> Result<u8> {
    if is_supervised {
        // Without its supervisor, which has the folder's lock, nobody would know of it. One that has
        // gone by now hands it no secrets.
        set_parent_process_death_signal(Some(Signal::KILL)).context("cannot follow a process")?;
    }
    let (starter, secrets) = settle()?;
    let record = Record::open(name).with_context(|| format!("there is no machine {name}"))?;
    let running = if is_supervised {
        Running::below_supervisor(name)
    } else {
        match Running::claim(name)? {
            Some(running) => running,
            None => bail!("{name} runs already"),
        }
    };
    record.set_end(None)?;
    let facts = record.facts()?;
    let ended = monitor::run(Start {
        file: &record.app_file()?,
        running: &running,
        secrets: &secrets,
        sockets: Sockets::default(),
        streams: Streams::Kept(&record.logs()),
        statistics: None,
        timing: None,
        // The starter may be gone, and then nobody wants to know.
        contained: None,
        started: Box::new(|| drop(send(&starter, &Told::Started))),
        ended: Box::new(|end| {
            // Without a note of it, the end reads as that of a killed monitor.
            let _ = record.set_end(Some(end));
            let _ = send(&starter, &Told::Ended(end.clone()));
        }),
    });
    if facts.remove_at_end && !is_supervised {
        record.remove()?;
    }
    Ok(ended?.status)
}
