//! Process 1 of a guest: what the program `mvm-init` does.
//!
//! The one thing to know: all that can wait for the host's setup waits for it; what stands before
//! the first hello is on the path of every start. It never ends: an error is told to the host and
//! the kernel log, and the machine reset, since a kernel without process 1 panics.

mod etc;
mod file;
mod modules;
mod mounts;
mod netlink;
mod network;
mod plan9;
mod port;
mod power;
mod root;
mod secrets;
mod store;
pub(crate) mod volumes;

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

pub use etc::of_users;
pub use root::FOLDERS;

use crate::agent::{Agent, End, Listener, boot_time_us, child_signals, serve_apart};
use crate::protocol::{PORT_NAME, Root, Setup};
use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};
use rustix::time::{ClockId, Timespec, clock_settime};

/// Open files per process: systemd's values. Programs that want many raise the first themselves,
/// and `select` breaks above 1024.
const OPEN_FILES: Rlimit = Rlimit {
    current: Some(1024),
    maximum: Some(512 * 1024),
};

/// Runs the guest. Returns only where it is not process 1, with the status to exit with.
pub fn run() -> i32 {
    let started_us = boot_time_us();
    if !getpid().is_init() {
        eprintln!("mvm-init: it is the first process of mvm's guests and does nothing elsewhere");
        return 125;
    }
    std::panic::set_hook(Box::new(|panic| power::fail(&panic.to_string())));
    match serve(started_us) {
        Ok(End::PowerOff) => power::off(),
        // Its end of the port is not opened twice.
        Ok(End::HostGone) => power::fail("the host has closed the connection"),
        Err(error) => power::fail(&format!("{error:#}")),
    }
}

fn serve(started_us: u64) -> Result<End> {
    root::mount_early()?;
    occupy_standard_streams()?;
    modules::load()?;
    let port = port::open(PORT_NAME)?;
    let children = child_signals().context("cannot watch child processes")?;
    let listener = Listener::open()?;
    let agent = Agent::greet(port, Some(children), started_us)?.listening(listener);
    // The host is told of a failure once it listens.
    let mut prepared = Some(prepare());
    agent.serve(&mut |setup| {
        prepared.take().unwrap_or(Ok(()))?;
        set_up(setup)
    })
}

/// What needs no word of the host; it is done while that reads the hello.
fn prepare() -> Result<()> {
    root::mount_kernel_file_systems()?;
    network::raise_loopback().context("cannot set the loopback interface up")?;
    setrlimit(Resource::Nofile, OPEN_FILES).context("cannot set the limit of open files")
}

fn set_up(setup: &Setup) -> Result<()> {
    // First, since each moment that passes is lost.
    if let Some(now) = setup.clock_ns {
        set_clock(now)?;
    }
    // A system's stage 1 makes its root itself.
    if setup.root != Root::Initrd {
        root::switch(setup)?;
        mounts::mount_all(&setup.mounts)?;
    }
    if let Some(folder) = &setup.working_folder {
        // Where it cannot be made, who starts there is told why not.
        let _ = std::fs::create_dir_all(OsStr::from_bytes(folder.as_bytes()));
    }
    if let Some(level) = setup.console_level {
        std::fs::write("/proc/sys/kernel/printk", level.to_string())
            .context("cannot set the console's log level")?;
    }
    if let Some(hostname) = &setup.hostname {
        rustix::system::sethostname(hostname.as_bytes())
            .with_context(|| format!("cannot set the host name to {hostname:?}"))?;
    }
    network::set_up(&setup.links)?;
    secrets::write_all(&setup.secrets)?;
    if setup.read_only {
        root::protect()?;
    }
    for name in &setup.ports {
        let port = port::open(name)?;
        serve_apart(&port).with_context(|| format!("cannot serve the port {name}"))?;
    }
    Ok(())
}

/// Sets the clock to a time in nanoseconds since 1970.
fn set_clock(now_ns: u64) -> Result<()> {
    let now =
        Timespec::try_from(Duration::from_nanos(now_ns)).context("the time is out of range")?;
    clock_settime(ClockId::Realtime, now).context("cannot set the clock")
}

/// The kernel opens 0 to 2 only if there is a console. A pipe that got such a number would be
/// overwritten in a child.
pub(crate) fn occupy_standard_streams() -> Result<()> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .context("cannot open /dev/null")?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(null);
    }
}
