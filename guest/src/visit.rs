//! The process that serves one more connection of the host.
//!
//! The one thing to know: it ends with its connection, and kills what it has started; so a command
//! of the host that goes away leaves nothing behind, but for what it has left to itself.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use crate::agent::{Agent, boot_time_us, ignore_broken_pipes};
use crate::init;

/// Serves the connection that standard input is. Returns the status to exit with.
pub fn run() -> i32 {
    match serve() {
        Ok(()) => 0,
        // The host has been told.
        Err(_) => 125,
    }
}

fn serve() -> Result<()> {
    let channel = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("there is no connection")?;
    // The connection is to end with that copy.
    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    rustix::stdio::dup2_stdin(null).context("cannot set standard input")?;
    init::occupy_standard_streams()?;
    // Else a host that goes in the middle of a write ends this process, and not what it has started.
    ignore_broken_pipes().context("cannot ignore SIGPIPE")?;
    Agent::greet(channel, None, boot_time_us())?.serve_prepared()?;
    Ok(())
}
