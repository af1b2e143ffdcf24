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
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::control::message::{receive, send};
use crate::logs;
use crate::machines::record::End;
use crate::machines::{Record, Running};
use crate::monitor::{self, Start, Streams};
use crate::places;
use crate::secrets::{self, Secrets};

/// What the process tells whoever started it, once.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    /// The program runs.
    Started,
    /// It does not, and the machine has ended.
    Ended(End),
}

/// Starts the machine. Returns its end if the program could not be run.
///
/// # Errors
/// The process could not be started, or was killed.
pub fn start(record: &Record) -> Result<Option<End>> {
    let name = record.name();
    let app = record.app_file()?.app;
    let secrets = Secrets::of(&app)?;
    let program = env::current_exe().context("cannot tell where mvm is")?;
    let (here, there) = UnixStream::pair().context("cannot make a socket pair")?;
    places::private(&record.logs())?;
    let log = logs::monitor(&record.logs());
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .with_context(|| format!("cannot open {}", log.display()))?;
    let mut command = Command::new(program);
    for variable in secrets::variables(&app) {
        command.env_remove(variable);
    }
    let mut process = command
        .args(["monitor", &name])
        .stdin(Stdio::from(OwnedFd::from(there)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()
        .context("cannot start a process")?;
    // One that has died is told of below.
    let _ = send(&here, &secrets);
    match receive(&here) {
        Ok(Told::Started) => Ok(None),
        Ok(Told::Ended(end)) => {
            // It is about to, and shall be gone when this command is.
            let _ = process.wait();
            Ok(Some(end))
        }
        Err(_) => {
            let status = process.wait().context("cannot wait for a process")?;
            Err(died(&record.logs(), &name, &status.to_string()))
        }
    }
}

fn died(logs: &std::path::Path, name: &str, status: &str) -> anyhow::Error {
    let log = fs::read_to_string(logs::monitor(logs)).unwrap_or_default();
    match log.lines().last() {
        Some(line) => anyhow!("{}", line.strip_prefix("mvm: ").unwrap_or(line)),
        None => anyhow!("the process of machine {name} ended ({status}) and said nothing"),
    }
}

/// Is that process: standard input is the socket to whoever started it.
///
/// # Errors
/// The machine failed. That has been told and noted, too.
pub fn carry_out(name: &str) -> Result<u8> {
    // Away from the terminal and the folder of whoever started it.
    rustix::process::setsid().context("cannot leave the terminal")?;
    env::set_current_dir("/").context("cannot change to /")?;
    let starter = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("there is no socket")?;
    let starter = UnixStream::from(starter);
    let secrets: Secrets = receive(&starter).context("nobody says what the secrets are")?;
    let record = Record::open(name).with_context(|| format!("there is no machine {name}"))?;
    let Some(running) = Running::claim(name)? else {
        bail!("{name} runs already");
    };
    record.set_end(None)?;
    let facts = record.facts()?;
    let ended = monitor::run(Start {
        file: &record.app_file()?,
        running: &running,
        secrets: &secrets,
        streams: Streams::Kept(&record.logs()),
        statistics: None,
        // The starter may be gone, and then nobody wants to know.
        started: Box::new(|| drop(send(&starter, &Told::Started))),
        ended: Box::new(|end| {
            // Without a note of it, the end reads as that of a killed monitor.
            let _ = record.set_end(Some(end));
            let _ = send(&starter, &Told::Ended(end.clone()));
        }),
    });
    if facts.remove_at_end {
        record.remove()?;
    }
    Ok(ended?.status)
}
