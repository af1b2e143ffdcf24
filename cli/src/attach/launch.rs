//! A program in the guest that is started and left to itself.
//!
//! The one thing to know: the guest is hostile, so its answer has a time.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use guest::protocol::{Exec, FIRST_SESSION, Message};

use super::connection::Deadline;
use super::session::{Event, Session};
use super::{Connection, Outcome, PROTOCOL, ensure_session};

/// Starts `exec`, and leaves it once it runs. Returns [`Outcome::Detached`], or how it ended if it
/// did so before.
///
/// # Errors
/// The guest takes longer than `time`, closes the connection, or breaks the protocol.
pub fn launch(connection: &mut Connection, exec: &Exec, time: Duration) -> Result<Outcome> {
    let deadline = Deadline::after(time);
    connection.send_in(FIRST_SESSION, &Message::Exec(Box::new(exec.clone())))?;
    let mut session = Session::new();
    loop {
        let mut has_started = false;
        if let Some((number, message)) = connection.next_message()? {
            ensure_session(number)?;
            match session.receive(&message).context(PROTOCOL)? {
                Event::Ended(outcome) => return Ok(outcome),
                // What it says before it hears that nobody listens is not listened to.
                event => has_started = event == Event::Started,
            }
        } else if connection.fill_until(deadline)? == 0 {
            bail!("the guest closed the connection");
        }
        if has_started && session.leave() {
            connection.send_in(FIRST_SESSION, &Message::Detach)?;
        }
    }
}
