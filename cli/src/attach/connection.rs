//! The stream to a guest, from the first hello to the end of its setup.
//!
//! The one thing to know: the guest may be hostile, so each wait has an end, however slowly bytes
//! trickle in.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use guest::protocol::{Decoder, FrameBuffer, Hello, MACHINE, Message, Setup, Side};

use super::PROTOCOL;
use super::session::name;

/// The guest closed the stream without a word why.
#[derive(Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it closed the connection")
    }
}

impl std::error::Error for Closed {}

/// Until when something must have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    time: Duration,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self {
            at: Instant::now() + time,
            time,
        }
    }
}

/// A guest that has said hello.
pub struct Connection {
    stream: UnixStream,
    buffer: FrameBuffer,
    decoder: Decoder,
    hello: Hello,
}

impl Connection {
    /// Waits for the guest's hello and answers it. Fails if it has not come within `timeout`.
    pub fn open(stream: UnixStream, timeout: Duration) -> Result<Self> {
        let mut connection = Self {
            stream,
            buffer: FrameBuffer::new(),
            decoder: Decoder::new(Side::Guest),
            hello: Hello {
                side: Side::Host,
                started_us: 0,
                sent_us: 0,
            },
        };
        let answer = Message::Hello(connection.hello);
        connection.hello = match connection
            .await_message(timeout)
            .context("cannot greet the guest")?
        {
            Reply::Hello(hello) => hello,
            Reply::SetupDone => bail!("{PROTOCOL}: the guest did not say hello"),
        };
        connection.send(&answer)?;
        Ok(connection)
    }

    /// Has the guest prepare itself. Fails with its words if it cannot, or if it has not within
    /// `timeout`.
    pub fn set_up(&mut self, setup: &Setup, timeout: Duration) -> Result<()> {
        self.send(&Message::Setup(Box::new(setup.clone())))?;
        match self
            .await_message(timeout)
            .context("cannot set the guest up")?
        {
            Reply::SetupDone => Ok(()),
            Reply::Hello(_) => bail!("{PROTOCOL}: a second hello"),
        }
    }

    /// Has the guest end all that runs, write everything back and switch its machine off, which
    /// closes the stream. Fails if it has not within `timeout`.
    pub fn power_off(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(timeout))?;
        self.send(&Message::PowerOff)?;
        let mut rest = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "it did not end within {} s",
                timeout.as_secs()
            );
            self.stream.set_read_timeout(Some(left))?;
            // What its last programs say has no reader any more.
            match (&self.stream).read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if super::is_transient(&error) => {}
                Err(error) => return Err(error).context("cannot read from the guest"),
            }
        }
    }

    /// What its frames come and go by.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Reads once.
    pub fn fill(&mut self) -> io::Result<usize> {
        self.buffer.fill(&mut &self.stream)
    }

    /// Reads once, and waits for that until `deadline`.
    pub(super) fn fill_until(&mut self, deadline: Deadline) -> Result<usize> {
        loop {
            let left = deadline.at.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "it did not answer within {} s",
                deadline.time.as_secs_f32()
            );
            self.stream.set_read_timeout(Some(left))?;
            match self.fill() {
                Ok(count) => return Ok(count),
                Err(error) if super::is_transient(&error) => {}
                Err(error) => return Err(error).context("cannot read from the guest"),
            }
        }
    }

    /// The next message that has wholly come, with its session. The guest's word that it failed is
    /// an error here.
    pub fn next_message(&mut self) -> Result<Option<(u32, Message<'_>)>> {
        let Some(frame) = self.buffer.next_frame().context(PROTOCOL)? else {
            return Ok(None);
        };
        let session = frame.header.session;
        match self.decoder.decode(frame).context(PROTOCOL)? {
            Some(Message::Failed(reason)) => bail!("the guest failed: {reason}"),
            Some(message) => Ok(Some((session, message))),
            None => bail!("{PROTOCOL}: a message in pieces"),
        }
    }

    pub(super) fn send(&mut self, message: &Message<'_>) -> Result<()> {
        self.send_in(MACHINE, message)
    }

    pub(super) fn send_in(&mut self, session: u32, message: &Message<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        message.encode(session, &mut bytes)?;
        self.stream
            .write_all(&bytes)
            .context("cannot write to the guest")
    }

    /// Waits for a message of the machine's session.
    fn await_message(&mut self, timeout: Duration) -> Result<Reply> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some((_, message)) = self.next_message()? {
                let reply = match message {
                    Message::Hello(hello) => Reply::Hello(hello),
                    Message::SetupDone => Reply::SetupDone,
                    // Without what it carries, which may be long.
                    _ => bail!("{PROTOCOL}: {} before the guest is set up", name(&message)),
                };
                self.stream.set_read_timeout(None)?;
                return Ok(reply);
            }
            if self.fill_until(deadline)? == 0 {
                bail!(Closed);
            }
        }
    }
}

/// What the guest answers before the first execution.
enum Reply {
    Hello(Hello),
    SetupDone,
}
