//! `mvm emulator stop`: returns when nothing of the emulated host is left.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use guest::protocol::{MACHINE, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::folder::Folder;
use super::start::connect;
use super::state::State;

/// For the emulated host to end by itself; it kills its machine well before.
const PATIENCE: Duration = Duration::from_secs(12);

/// For the kernel to end a killed process.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How often to look whether it has gone.
const STEP: Duration = Duration::from_millis(10);

/// Stops the emulated host, if one runs.
pub fn stop(folder: &Folder) -> Result<()> {
    let process = process(folder)?;
    if let Some(mut stream) = connect(folder)? {
        let mut power_off = Vec::new();
        Message::PowerOff.encode(MACHINE, &mut power_off)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // It may be ending already; what it says meanwhile is not for us.
        let _ = stream
            .write_all(&power_off)
            .and_then(|()| stream.read_to_end(&mut Vec::new()));
    }
    if has_gone(folder, PATIENCE)? {
        return wait(process.as_ref());
    }
    let state = State::read(folder)?.context("cannot tell the emulated host's process")?;
    let pid = i32::try_from(state.pid).ok().and_then(Pid::from_raw);
    // QEMU dies with it.
    kill_process(
        pid.context("cannot tell the emulated host's process")?,
        Signal::KILL,
    )
    .context("cannot kill the emulated host")?;
    ensure!(
        has_gone(folder, AFTER_KILL)?,
        "the emulated host does not end"
    );
    wait(process.as_ref())
}

/// The process whose folder it is, if there is one.
fn process(folder: &Folder) -> Result<Option<OwnedFd>> {
    if !folder.is_claimed()? {
        return Ok(None);
    }
    let state = State::read(folder)?;
    let pid = state.and_then(|state| Pid::from_raw(i32::try_from(state.pid).ok()?));
    Ok(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
}

/// Waits for the end of a process that has given its folder up, which it does a moment before.
fn wait(process: Option<&OwnedFd>) -> Result<()> {
    if let Some(process) = process {
        let timeout = Timespec::try_from(AFTER_KILL)?;
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout))?;
    }
    Ok(())
}

/// Waits until no emulated host lives.
fn has_gone(folder: &Folder, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while folder.is_claimed()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(STEP);
    }
    Ok(true)
}
