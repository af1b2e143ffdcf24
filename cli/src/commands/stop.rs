//! `mvm stop`: the end of a machine, as gently as it lets itself be ended.
//!
//! The one thing to know: there are three stages, each with its time: the program's stop signal, a
//! power-off of the guest, and SIGKILL for the monitor, with which everything goes.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::start::for_each;
use crate::control::client;
use crate::control::message::Request;
use crate::machines::{self, running};

/// For the guest to end its programs and switch itself off: its own grace is a second.
const POWER_OFF_TIME: Duration = Duration::from_secs(5);

/// After SIGKILL the kernel takes the machine apart.
const KILL_TIME: Duration = Duration::from_secs(10);

/// What programs are asked to end with.
const SIGTERM: u8 = 15;

/// Stop machines
///
/// The program gets SIGTERM. If it has not ended after the time, the guest is switched off, and at
/// last the machine is killed. One that does not run is left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    timeout: Timeout,
}

/// How long a program may take.
#[derive(Debug, clap::Args)]
pub struct Timeout {
    /// Seconds for the program to end by itself
    #[arg(
        long = "time",
        short = 't',
        value_name = "SECONDS",
        default_value_t = 10
    )]
    seconds: u32,
}

impl Timeout {
    /// The same as a duration.
    pub fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::find(name)?;
        if machine.is_running {
            stop(&machine.name, args.timeout.seconds())?;
        }
        Ok(machine.name)
    })
}

/// Ends the machine `name`, whatever that takes. Returns when it has gone.
///
/// # Errors
/// It cannot even be killed.
pub fn stop(name: &str, patience: Duration) -> Result<()> {
    let end = watch(name)?;
    let has_ended = |time| end.recv_timeout(time).is_ok();
    // A paused guest would hear nothing. It fails where it is not paused.
    let _ = client::order(name, &Request::Resume);
    let asked = client::order(name, &Request::Signal { signal: SIGTERM });
    if asked.is_ok() && has_ended(patience) {
        return Ok(());
    }
    let off = client::order(name, &Request::PowerOff);
    if off.is_ok() && has_ended(POWER_OFF_TIME) {
        return Ok(());
    }
    kill_monitor(name)?;
    if has_ended(KILL_TIME) {
        return Ok(());
    }
    bail!("{name} does not end although it was killed")
}

/// Kills the machine's process, and with it all that it is.
///
/// # Errors
/// It cannot be told which that is.
pub fn kill_monitor(name: &str) -> Result<()> {
    let pid = match running::monitor(name) {
        Ok(pid) => pid,
        Err(_) if !running::is_running(name) => return Ok(()),
        Err(error) => return Err(error),
    };
    let send = |pid: Pid| {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        // The number may be another's by now; while the folder is locked it is not.
        if running::is_running(name) {
            pidfd_send_signal(&process, Signal::KILL)?;
        }
        rustix::io::Result::Ok(())
    };
    send(pid).with_context(|| format!("cannot kill the process of {name}"))
}

/// Hears of the machine's end in a thread.
fn watch(name: &str) -> Result<mpsc::Receiver<()>> {
    let (sender, end) = mpsc::channel();
    let name = name.to_owned();
    thread::Builder::new()
        .name("end".into())
        .spawn(move || {
            if running::await_end(&name).is_ok() {
                // Nobody waits any more after the last stage.
                let _ = sender.send(());
            }
        })
        .context("cannot start a thread")?;
    Ok(end)
}
