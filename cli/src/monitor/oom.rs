//! Whether the guest's kernel ended the program for want of memory.
//!
//! The one thing to know: its agent outlives the program by a moment, in which it is asked; and only
//! where the program ended as one does that is killed.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use guest::memory;
use guest::protocol::{AGENT_PORT, Exit};
use vmm::machine::Running;

use super::Ended;
use crate::attach::{Connection, Outcome, observe};
use crate::events::{self, Happened};

/// The status of what was killed, by itself or in a shell.
const KILLED: u8 = 128 + 9;

/// For a guest without memory to answer.
const TIME: Duration = Duration::from_secs(10);

/// What is said of such an end.
const REASON: &str =
    "the guest's kernel killed it for want of memory; `memory` in the file says how much there is";

/// Whether that is how a program came to its end.
pub fn is_reason(outcome: &Outcome, running: &Running) -> bool {
    let is_killed = matches!(outcome, Outcome::Exited(_)) && outcome.status() == KILLED;
    // Of a guest that does not tell it is not known.
    is_killed && kills(running).is_ok_and(|kills| kills > 0)
}

/// Says so with the end and among the events of the machine.
pub fn tell(name: &str, ended: &mut Result<Ended>) {
    let kernel = events::Kernel::Guest;
    events::note(name, Happened::Oom { kernel });
    if let Ok(ended) = ended {
        ended.reason = Some(REASON.into());
    }
}

fn kills(running: &Running) -> Result<u64> {
    let deadline = Instant::now() + TIME;
    let (here, there) = UnixStream::pair().context("cannot make a socket pair")?;
    running.vsock.connect(AGENT_PORT, there)?;
    let mut guest = Connection::open(here, TIME)?;
    let (outcome, output) = observe(&mut guest, &memory::execution(), &[], deadline)?;
    if outcome != Outcome::Exited(Exit::Code(0)) {
        bail!("the guest does not know");
    }
    let text = String::from_utf8_lossy(&output);
    text.trim_end().parse().context("that is no number")
}
