//! A program in the guest of which only the end and the first words are of interest.
//!
//! The one thing to know: there is one deadline for all of it, and the guest is hostile, so each
//! wait ends by then, however slowly bytes come or are taken.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{Exec, FIRST_SESSION, MAX_PAYLOAD, Message, Stream, WINDOW};

use super::session::{Event, Session};
use super::{Connection, Outcome, PROTOCOL, ensure_session, is_transient};

/// Bytes of output that are kept, of both streams together: those that Docker keeps of a check.
const KEPT: usize = 4096;

/// Runs `exec`, which wants no terminal, with this `input`. Returns its end and how its output begins.
///
/// # Errors
/// It has not ended before `deadline`, or the guest breaks the protocol.
pub fn observe(
    connection: &mut Connection,
    exec: &Exec,
    input: &[u8],
    deadline: Instant,
) -> Result<(Outcome, Vec<u8>)> {
    let mut input = Input::new(input, exec.stdin);
    let mut session = Session::new();
    let mut output = Vec::new();
    let started = Instant::now();
    let late = || {
        let time = deadline.saturating_duration_since(started);
        format!("it took longer than {} s", time.as_secs_f32())
    };
    let mut outbox = Vec::new();
    Message::Exec(Box::new(exec.clone())).encode(FIRST_SESSION, &mut outbox)?;
    loop {
        input.send(&mut outbox)?;
        write(connection, &outbox, deadline).with_context(late)?;
        outbox.clear();
        while let Some((id, message)) = connection.next_message()? {
            ensure_session(id)?;
            match session.receive(&message).context(PROTOCOL)? {
                Event::Output(stream, bytes) => {
                    let room = KEPT.saturating_sub(output.len()).min(bytes.len());
                    output.extend_from_slice(&bytes[..room]);
                    let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    session.written(stream, bytes);
                    Message::Credit { stream, bytes }.encode(FIRST_SESSION, &mut outbox)?;
                }
                Event::Ended(outcome) => return Ok((outcome, output)),
                Event::InputCredit(bytes) => input.add_credit(bytes)?,
                Event::InputClosed => input.rest = None,
                Event::Nothing | Event::Started => {}
            }
        }
        if outbox.is_empty()
            && !input.can_go_on()
            && !fill(connection, deadline).with_context(late)?
        {
            return Ok((Outcome::Lost, output));
        }
    }
}

/// What the program is still to read.
struct Input<'a> {
    /// None once its end has been told, or nobody reads on.
    rest: Option<&'a [u8]>,
    /// Bytes that the guest has room for.
    credit: u32,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8], is_wanted: bool) -> Self {
        Self {
            rest: is_wanted.then_some(bytes),
            credit: WINDOW,
        }
    }

    /// Whether there is something to send, and room for it.
    fn can_go_on(&self) -> bool {
        self.rest
            .is_some_and(|rest| rest.is_empty() || self.credit > 0)
    }

    /// One frame more, if one can be sent.
    fn send(&mut self, outbox: &mut Vec<u8>) -> Result<()> {
        let Some(rest) = self.rest.filter(|_| self.can_go_on()) else {
            return Ok(());
        };
        if rest.is_empty() {
            self.rest = None;
            return Message::Eof(Stream::Stdin).encode(FIRST_SESSION, outbox);
        }
        let most = MAX_PAYLOAD.min(self.credit as usize).min(rest.len());
        let (bytes, rest) = rest.split_at(most);
        self.rest = Some(rest);
        self.credit -= u32::try_from(bytes.len())?;
        let stream = Stream::Stdin;
        Message::Data { stream, bytes }.encode(FIRST_SESSION, outbox)
    }

    fn add_credit(&mut self, bytes: u32) -> Result<()> {
        let credit = self.credit.saturating_add(bytes);
        ensure!(
            credit <= WINDOW,
            "{PROTOCOL}: credit for {bytes} bytes that were not sent"
        );
        self.credit = credit;
        Ok(())
    }
}

/// Time until the deadline, while there is any.
fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "the time is over");
    Ok(left)
}

/// Reads once; false at the end of the connection.
fn fill(connection: &mut Connection, deadline: Instant) -> Result<bool> {
    loop {
        let left = left(deadline)?;
        connection.stream().set_read_timeout(Some(left))?;
        match connection.fill() {
            Ok(count) => return Ok(count > 0),
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error).context("cannot read from the guest"),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

fn write(connection: &Connection, mut bytes: &[u8], deadline: Instant) -> Result<()> {
    let mut stream = connection.stream();
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(0) => bail!("the guest takes nothing"),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_transient(&error) => {}
            // What the guest said before it went is still to be read.
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error).context("cannot write to the guest"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use guest::protocol::{Exit, Hello, MACHINE, Side, Stream, WINDOW};

    use super::*;

    /// For what shall not be late.
    const LONG: Duration = Duration::from_secs(60);

    fn hello() -> Message<'static> {
        Message::Hello(Hello {
            side: Side::Guest,
            started_us: 0,
            sent_us: 0,
        })
    }

    /// What comes of a guest that says this behind its hello, and then does `rest`.
    fn observed(
        messages: &[Message<'_>],
        time: Duration,
        rest: impl FnOnce(&UnixStream) + Send + 'static,
    ) -> Result<(Outcome, Vec<u8>)> {
        let (host, guest) = UnixStream::pair().unwrap();
        let mut wire = Vec::new();
        hello().encode(MACHINE, &mut wire).unwrap();
        for message in messages {
            message.encode(FIRST_SESSION, &mut wire).unwrap();
        }
        let spoken = thread::spawn(move || {
            // The host may have gone before it has heard all.
            let _ = (&guest).write_all(&wire);
            rest(&guest);
            // It hears the host out, so that nothing but what it says decides.
            let _ = guest.shutdown(Shutdown::Write);
            let _ = io::copy(&mut &guest, &mut io::sink());
        });
        let mut connection = Connection::open(host, LONG)?;
        let deadline = Instant::now() + time;
        let observed = observe(&mut connection, &Exec::default(), &[], deadline);
        drop(connection);
        spoken.join().unwrap();
        observed
    }

    fn data(stream: Stream, bytes: &[u8]) -> Message<'_> {
        Message::Data { stream, bytes }
    }

    const STARTED: Message<'_> = Message::Started { pid: 2 };

    #[test]
    fn the_end_is_told_with_the_first_words_of_both_streams() {
        let long = vec![b'x'; KEPT];
        let messages = [
            STARTED,
            data(Stream::Stderr, b"one "),
            data(Stream::Stdout, b"two "),
            data(Stream::Stdout, &long),
            Message::Exit(Exit::Code(3)),
        ];
        let (outcome, output) = observed(&messages, LONG, |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Exited(Exit::Code(3)));
        assert_eq!((&output[..8], output.len()), (&b"one two "[..], KEPT));
    }

    #[test]
    fn more_than_a_window_passes() {
        let piece = vec![0; 64 * 1024];
        let count = 2 * WINDOW as usize / piece.len();
        let mut messages = vec![STARTED];
        messages.extend((0..count).map(|_| data(Stream::Stdout, &piece)));
        messages.push(Message::Exit(Exit::Code(0)));
        let (outcome, _) = observed(&messages, LONG, |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Exited(Exit::Code(0)));
    }

    #[test]
    fn a_guest_that_goes_is_lost() {
        let (outcome, _) = observed(&[STARTED], LONG, |_| {}).unwrap();
        assert_eq!(outcome, Outcome::Lost);
    }

    #[test]
    fn a_guest_that_speaks_for_ever_is_late() {
        let endless = |stream: &UnixStream| {
            let mut wire = Vec::new();
            let data = data(Stream::Stdout, b"x");
            data.encode(FIRST_SESSION, &mut wire).unwrap();
            let mut stream = stream;
            while stream.write_all(&wire).is_ok() {}
        };
        let error = observed(&[STARTED], Duration::from_millis(50), endless).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("it took longer than 0.0"), "{error}");
    }

    #[test]
    fn a_guest_that_breaks_the_rules_is_an_error() {
        let exit = Message::Exit(Exit::Code(0));
        let error = observed(&[exit], LONG, |_| {}).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "guest agent protocol: an exit before the start"
        );
        let mut wire = Vec::new();
        STARTED.encode(FIRST_SESSION + 1, &mut wire).unwrap();
        let other = move |mut stream: &UnixStream| drop(stream.write_all(&wire));
        let error = observed(&[], LONG, other).unwrap_err();
        assert!(
            error.to_string().contains("message for session 2"),
            "{error:#}"
        );
    }
}
