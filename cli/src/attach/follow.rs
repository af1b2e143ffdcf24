//! A program in the guest whose output is heard piece by piece, as it comes.
//!
//! The one thing to know: the guest is hostile, so neither a wait nor a write is without an end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use guest::protocol::{Exec, FIRST_SESSION, Message, Stream};

use super::session::{Event, Session};
use super::{Connection, PROTOCOL, ensure_session, is_transient};

/// For the guest to take a few bytes.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// A program that runs as long as this lives.
pub struct Followed {
    connection: Connection,
    session: Session,
}

/// What has come of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing in that time.
    Nothing,
    /// Bytes of its standard output.
    Bytes(Vec<u8>),
    /// The end.
    End,
}

impl Followed {
    /// Starts `exec`, which wants neither input nor a terminal, over a connection of its own.
    ///
    /// # Errors
    /// The guest takes nothing.
    pub fn start(mut connection: Connection, exec: &Exec) -> Result<Self> {
        connection.stream().set_write_timeout(Some(WRITE_TIME))?;
        connection.send_in(FIRST_SESSION, &Message::Exec(Box::new(exec.clone())))?;
        Ok(Self {
            connection,
            session: Session::new(),
        })
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// The guest breaks the protocol.
    pub fn hear(&mut self, time: Duration) -> Result<Heard> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(heard) = self.take()? {
                return Ok(heard);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Heard::Nothing);
            }
            self.connection.stream().set_read_timeout(Some(left))?;
            match self.connection.fill() {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error).context("cannot read from the guest"),
            }
        }
    }

    /// What has wholly come and is of interest.
    fn take(&mut self) -> Result<Option<Heard>> {
        while let Some((number, message)) = self.connection.next_message()? {
            ensure_session(number)?;
            let (stream, bytes) = match self.session.receive(&message).context(PROTOCOL)? {
                Event::Ended(_) => return Ok(Some(Heard::End)),
                Event::Output(stream, bytes) => (stream, bytes.to_vec()),
                _ => continue,
            };
            let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.session.written(stream, count);
            let credit = Message::Credit {
                stream,
                bytes: count,
            };
            self.connection.send_in(FIRST_SESSION, &credit)?;
            if stream == Stream::Stdout {
                return Ok(Some(Heard::Bytes(bytes)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use guest::agent::Agent;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn follow(script: &str) -> Followed {
        let (host, guest) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let agent = Agent::greet(guest.into(), None, 1).unwrap();
            agent.serve_prepared()
        });
        let exec = Exec {
            argv: ["sh", "-c", script].map(Into::into).into(),
            ..Exec::default()
        };
        Followed::start(Connection::open(host, PATIENCE).unwrap(), &exec).unwrap()
    }

    #[test]
    fn output_comes_as_it_is_written_and_then_the_end() {
        let mut followed = follow("echo lost >&2; echo heard");
        assert_eq!(
            followed.hear(PATIENCE).unwrap(),
            Heard::Bytes(b"heard\n".into())
        );
        assert_eq!(followed.hear(PATIENCE).unwrap(), Heard::End);
    }

    #[test]
    fn a_program_that_is_silent_is_waited_for_so_long_and_far_more_than_a_window_passes() {
        let mut followed = follow("read -r _ </dev/zero");
        assert_eq!(
            followed.hear(Duration::from_millis(10)).unwrap(),
            Heard::Nothing
        );
        let mut followed = follow("head -c 5000000 /dev/zero");
        let mut count = 0;
        while let Heard::Bytes(bytes) = followed.hear(PATIENCE).unwrap() {
            count += bytes.len();
        }
        assert_eq!(count, 5_000_000);
    }
}
