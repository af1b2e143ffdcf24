//! One check: a program run in the guest, from the first word to its end.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use guest::probe::Probe;
use guest::protocol::{AGENT_PORT, Exec, Exit};
use jiff::Timestamp;
use vmm::app::{App, HealthCheck, Http};
use vmm::machine::Running;

use crate::attach::{Connection, Outcome, observe};
use crate::control::message::Verdict;
use crate::environment;
use crate::monitor::setup;

/// What is run: a program of the app's as the app is run, or a probe as root.
pub fn execution(app: &App, check: &HealthCheck) -> Exec {
    if let Some(command) = &check.exec {
        return Exec {
            argv: command.iter().map(|word| word.as_str().into()).collect(),
            env: environment::lines(&app.program().env),
            cwd: Some(app.program().cwd().into()),
            user: Some(app.program().user().into()),
            bounds: setup::bounds(&app.program()),
            ..Exec::default()
        };
    }
    Exec {
        argv: probe(check).argv(),
        ..Exec::default()
    }
}

fn probe(check: &HealthCheck) -> Probe {
    match (&check.http, &check.tcp) {
        (Some(http), _) => {
            let Http {
                port,
                path,
                status,
                contains,
            } = http.clone();
            Probe::Http {
                port,
                path,
                status,
                contains: contains.unwrap_or_default(),
            }
        }
        (None, Some(tcp)) => Probe::Tcp(tcp.port),
        (None, None) => Probe::Unix(check.unix.clone().unwrap_or_default()),
    }
}

/// Carries a check out. Whatever goes wrong is a failed check.
pub fn check(running: &Running, exec: &Exec, timeout: Duration) -> Verdict {
    let (is_good, output) = match run(running, exec, timeout) {
        Ok((Outcome::Exited(Exit::Code(0)), output)) => (true, output),
        Ok((Outcome::Exited(exit), output)) if output.is_empty() => {
            (false, format!("it ended with status {}", exit.status()))
        }
        Ok((Outcome::Exited(_), output)) => (false, output),
        Ok((Outcome::Refused { message, .. }, _)) => (false, message),
        Ok(_) => (false, "the guest closed the connection".into()),
        Err(error) => (false, format!("{error:#}")),
    };
    Verdict {
        at: Timestamp::now(),
        is_good,
        output,
    }
}

fn run(running: &Running, exec: &Exec, timeout: Duration) -> Result<(Outcome, String)> {
    let deadline = Instant::now() + timeout;
    let (here, there) = UnixStream::pair().context("cannot make a socket pair")?;
    running.vsock.connect(AGENT_PORT, there)?;
    let mut guest = Connection::open(here, timeout)?;
    // When the connection is dropped, the guest kills what runs of it.
    let (outcome, output) = observe(&mut guest, exec, &[], deadline)?;
    Ok((outcome, printable(&output)))
}

/// As text that moves no terminal's cursor.
fn printable(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.trim_end().chars().map(plain).collect()
}
