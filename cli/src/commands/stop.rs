//! `mvm stop`: the end of a machine, as gently as it lets itself be ended.
//!
//! The one thing to know: there are three stages, each with its time: the program's stop signal, a
//! power-off of the guest, and SIGKILL for the monitor, with which everything goes.

use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use vmm::app::Program;

use super::rm::forget;
use super::start::for_each;
use crate::control::client;
use crate::control::message::Request;
use crate::events::{self, Happened};
use crate::machines::record::End;
use crate::machines::{self, Machine, Record, running};

/// For the guest to end its programs and switch itself off: its own grace is a second.
const POWER_OFF_TIME: Duration = Duration::from_secs(5);

/// For the machine to say that it does as it was told; one that hangs is not waited for.
const ORDER_TIME: Duration = Duration::from_secs(10);

/// After SIGKILL the kernel takes the machine apart.
const KILL_TIME: Duration = Duration::from_secs(10);

const KILL_PERIOD: Duration = Duration::from_millis(200);

/// The status of what was killed.
const KILLED: u8 = 128 + 9;

/// Stop machines
///
/// The program gets its stop signal, SIGTERM unless its file says another. If it has not ended after
/// the time, the guest is switched off, and at last the machine is killed. One that does not run is
/// left alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    timeout: Timeout,
}

/// How long a program may take.
#[derive(Debug, Default, clap::Args)]
pub struct Timeout {
    /// Seconds for the program to end by itself; by default what its file says, or 10
    #[arg(long = "time", short = 't', value_name = "SECONDS")]
    seconds: Option<u32>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for_each(&args.names, |name| {
        let machine = machines::called(name)?;
        if machine.is_running {
            stop(&machine, &args.timeout)?;
        }
        Ok(machine.name)
    })
}

/// Ends a machine, whatever that takes. Returns when it has gone, and nothing starts it again.
///
/// # Errors
/// It cannot even be killed.
pub fn stop(machine: &Machine, timeout: &Timeout) -> Result<()> {
    let name = &machine.name;
    machine.give_up()?;
    let end = watch(name)?;
    if !is_ended_gently(machine, timeout, &end) {
        kill_and_wait(machine, &end)?;
    }
    events::note(name, Happened::Stopped);
    Ok(())
}

/// Kills a machine, and waits until it has gone; nothing starts it again.
///
/// # Errors
/// It cannot be killed.
pub fn kill(machine: &Machine) -> Result<()> {
    machine.give_up()?;
    kill_and_wait(machine, &watch(&machine.name)?)
}

/// Asks the program and then the guest; false if neither has ended the machine.
fn is_ended_gently(machine: &Machine, timeout: &Timeout, end: &Receiver<()>) -> bool {
    let name = &machine.name;
    let has_ended = |time| end.recv_timeout(time).is_ok();
    let program = program(machine);
    let seconds = timeout
        .seconds
        .map(|seconds| Duration::from_secs(seconds.into()));
    let patience = seconds.unwrap_or_else(|| program.stop_timeout().into());
    let signal = program.stop_signal().number();
    // A paused guest would hear nothing. It fails where it is not paused.
    let order = |request: Request| client::order_within(ORDER_TIME, name, &request);
    let _ = order(Request::Resume);
    let asked = order(Request::Signal { signal });
    if asked.is_ok() && has_ended(patience) {
        return true;
    }
    let off = order(Request::PowerOff);
    off.is_ok() && has_ended(POWER_OFF_TIME)
}

/// What the machine runs: as it is kept, or as it says itself.
pub fn program(machine: &Machine) -> Program {
    let kept = machine.record.as_ref().map(Record::app_file);
    if let Some(Ok(file)) = kept {
        return file.app.program().into_owned();
    }
    // One that does not tell will hardly hear either, but is asked.
    client::info(&machine.name).map_or_else(
        |_| Program::default(),
        |info| info.app.program().into_owned(),
    )
}

fn kill_and_wait(machine: &Machine, end: &Receiver<()>) -> Result<()> {
    let name = &machine.name;
    let killed = Instant::now();
    let noted = End {
        at: Timestamp::now(),
        status: KILLED,
        reason: Some("it was killed".into()),
        reboots: false,
    };
    // Before it goes, for those who wait for that. What its supervisor notes afterwards counts, and of
    // one between two runs what has been noted.
    if let (Some(record), Some(_)) = (&machine.record, running::monitor(name)?) {
        record.set_end(Some(&noted))?;
    }
    while killed.elapsed() < KILL_TIME {
        // Again, since a supervisor may just have started it.
        kill_monitor(name)?;
        if end.recv_timeout(KILL_PERIOD).is_ok() {
            return bury(machine, &noted);
        }
    }
    bail!("{name} does not end although it was killed")
}

/// Does what a machine that was killed cannot do itself, unless its supervisor has.
fn bury(machine: &Machine, noted: &End) -> Result<()> {
    let Some(record) = &machine.record else {
        events::note(&machine.name, Happened::died(noted));
        return Ok(());
    };
    let Some(record) = Record::open(&record.name()) else {
        return Ok(());
    };
    if record.end()?.is_some_and(|end| end.at == noted.at) {
        events::note(&machine.name, Happened::died(noted));
    }
    if record.facts()?.remove_at_end {
        forget(machine)?;
    }
    Ok(())
}

/// Kills the machine's process, and with it all that it is. One between two runs has none.
fn kill_monitor(name: &str) -> Result<()> {
    let Some(pid) = running::monitor(name)? else {
        return Ok(());
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
fn watch(name: &str) -> Result<Receiver<()>> {
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
