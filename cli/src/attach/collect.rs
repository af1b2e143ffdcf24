//! A program whose output is an answer: run to its end without streams, terminal or signals.
//!
//! The one thing to know: the guest is hostile, so the answer has a limit and a time.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{Exec, FIRST_SESSION, Message, Stream};

use super::connection::Deadline;
use super::session::{Event, Session};
use super::{Connection, Outcome, PROTOCOL, ensure_session};

/// Runs `exec` and returns what it writes to standard output, at most `limit` bytes, and how it ended.
///
/// # Errors
/// It writes more, takes longer than `time`, or the guest breaks the protocol.
pub fn collect(
    connection: &mut Connection,
    exec: &Exec,
    limit: usize,
    time: Duration,
) -> Result<(Outcome, Vec<u8>)> {
    let deadline = Deadline::after(time);
    connection.send_in(FIRST_SESSION, &Message::Exec(Box::new(exec.clone())))?;
    let mut session = Session::new();
    let mut answer = Vec::new();
    loop {
        let mut taken = None;
        if let Some((number, message)) = connection.next_message()? {
            ensure_session(number)?;
            match session.receive(&message).context(PROTOCOL)? {
                Event::Ended(outcome) => return Ok((outcome, answer)),
                Event::Output(stream, bytes) => {
                    taken = u32::try_from(bytes.len()).ok().map(|bytes| (stream, bytes));
                    if stream != Stream::Stderr {
                        ensure!(
                            answer.len() + bytes.len() <= limit,
                            "the guest's answer is longer than {limit} bytes"
                        );
                        answer.extend_from_slice(bytes);
                    }
                }
                _ => {}
            }
        } else if connection.fill_until(deadline)? == 0 {
            bail!("the guest closed the connection");
        }
        if let Some((stream, bytes)) = taken.filter(|(_, bytes)| *bytes > 0) {
            session.written(stream, bytes);
            connection.send_in(FIRST_SESSION, &Message::Credit { stream, bytes })?;
        }
    }
}
