//! Waiting for descriptors, in the loops that serve several.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of `fds` is ready, the time is over, or a signal came; then none may be ready.
///
/// # Errors
/// There are too many.
pub fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<()> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for events"),
    }
}
