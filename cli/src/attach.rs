//! The host's end of a running program: its streams, its terminal, its signals.
//!
//! The one thing to know: one loop does all but the writing to standard output and error, which has
//! a thread each. Those descriptors are shared with whoever started `mvm`, so they are never made
//! non-blocking; and a reader that stands still must stop neither the other stream nor Ctrl-C.
//! Leaves out the machine: what happens to it when the program ends is the caller's to decide.

mod attached;
mod clock;
mod collect;
mod commands;
mod connection;
mod follow;
mod input;
mod interrupts;
mod keys;
mod launch;
mod observe;
mod outcome;
mod output;
mod parties;
mod session;
mod signals;
#[cfg(test)]
mod tests;

use std::io;

use anyhow::{Context, Result, ensure};
use guest::protocol::{FIRST_SESSION, Message, Stream};
use rustix::event::{EventfdFlags, eventfd};

use crate::terminal::RawMode;
use attached::Attached;
pub use clock::Clock;
pub use collect::collect;
pub use commands::{Command, Commander, Commands, commands};
pub use connection::{Closed, Connection};
pub use follow::{Followed, Heard};
use input::Input;
pub use keys::DetachKeys;
pub use launch::launch;
pub use observe::observe;
pub use outcome::Outcome;
use output::Output;
pub use parties::{Company, Program, Stdio};
use session::Session;
use signals::{ProcessSignals, Signals};

/// Connects `stdio` with a program in the guest until it ends, or is left.
///
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the program, SIGTERM as what
/// `company` says; when the program has a terminal, takes input and standard input is a terminal, that
/// is in raw mode meanwhile, and three Ctrl-C within a second are the end. The signals stay with this
/// process's handlers afterwards.
///
/// Fails if the guest breaks the protocol, or if output cannot be written for another reason than
/// that its reader has gone.
pub fn attach(
    connection: &mut Connection,
    program: Program<'_>,
    stdio: Stdio,
    company: Company<'_>,
) -> Result<Outcome> {
    // Where nobody reads what is typed, Ctrl-C must stay a signal.
    let raw = if program.has_terminal() && program.takes_input() {
        RawMode::enter(&stdio.stdin).context("cannot set the terminal to raw mode")?
    } else {
        None
    };
    let signals =
        ProcessSignals::new(raw.is_some(), company.hears_all).context("cannot watch signals")?;
    let outcome = attach_with(connection, program, stdio, signals, raw.as_ref(), company);
    drop(raw);
    outcome
}

fn attach_with(
    connection: &mut Connection,
    program: Program<'_>,
    stdio: Stdio,
    signals: impl Signals,
    raw: Option<&RawMode>,
    mut company: Company<'_>,
) -> Result<Outcome> {
    let progress = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .context("cannot make an eventfd")?;
    let output = |stream, fd| {
        let progress = progress.try_clone().context("cannot copy an eventfd")?;
        Output::start(stream, fd, progress)
    };
    let mut outbox = Vec::new();
    if let Program::New(exec) = program {
        Message::Exec(Box::new(exec.clone())).encode(FIRST_SESSION, &mut outbox)?;
    }
    let has_terminal = program.has_terminal();
    let takes_keys = has_terminal && !company.hears_all;
    let keys = takes_keys.then(|| std::mem::take(&mut company.keys));
    connection.stream().set_nonblocking(true)?;
    let attached = Attached {
        session: Session::new(),
        input: Input::new(stdio.stdin, program.takes_input(), keys),
        stdout: output(Stream::Stdout, stdio.stdout)?,
        stderr: output(Stream::Stderr, stdio.stderr)?,
        progress,
        signals,
        company,
        raw,
        program,
        outbox,
        end: None,
        is_switched_off: false,
        impatience: 0,
    };
    let outcome = attached.run(connection);
    connection.stream().set_nonblocking(false)?;
    outcome
}

/// Context of what a guest does wrong.
const PROTOCOL: &str = "guest agent protocol";

fn ensure_session(session: u32) -> Result<()> {
    ensure!(
        session == FIRST_SESSION,
        "{PROTOCOL}: message for session {session}, which does not exist"
    );
    Ok(())
}

/// Whether a read or write may go better later.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
