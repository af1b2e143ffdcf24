//! A command that is connected to the emulated host.
//!
//! The one thing to know: what waits for a client is bounded by the credit that its own program's
//! streams have, so a command that does not read stands still alone. Beyond [`WAITING_LIMIT`] it has
//! broken the protocol, and is let go.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Result, bail, ensure};
use guest::protocol::{Decoder, FIRST_SESSION, Frame, FrameBuffer, Header, MACHINE, Message, Side};

use crate::attach::is_transient;

/// Bytes that may wait for a client: the windows of its two output streams, even if each byte came
/// in a frame of its own.
const WAITING_LIMIT: usize = 8 * 1024 * 1024;

/// A connection.
pub struct Client {
    pub stream: UnixStream,
    buffer: FrameBuffer,
    decoder: Decoder,
    /// Bytes for it.
    waiting: Vec<u8>,
    /// Its execution's number in the guest.
    pub session: Option<u32>,
    /// Pieces of an execution that has not come as a whole.
    begun: Vec<u8>,
}

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing that concerns others.
    Nothing,
    /// These frames open an execution; their sessions are to be renumbered.
    Open(Vec<u8>),
    /// This frame is for its execution.
    Forward(Vec<u8>),
    /// The emulated host is to end.
    Stop,
}

impl Client {
    /// A client that has just connected.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            buffer: FrameBuffer::new(),
            decoder: Decoder::new(Side::Host),
            waiting: Vec::new(),
            session: None,
            begun: Vec::new(),
        })
    }

    /// Queues bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Queues a message.
    pub fn say(&mut self, session: u32, message: &Message<'_>) {
        // Only messages of a few bytes are said here, which always have an encoding.
        let encoded = message.encode(session, &mut self.waiting);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
    }

    /// Whether something waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what the client takes.
    pub fn flush(&mut self) -> Result<()> {
        ensure!(
            self.waiting.len() <= WAITING_LIMIT,
            "the command does not read"
        );
        let sent = write(&self.stream, &self.waiting)?;
        self.waiting.drain(..sent);
        Ok(())
    }

    /// Reads once. False at the end.
    pub fn read(&mut self) -> Result<bool> {
        match self.buffer.fill(&mut &self.stream) {
            Ok(count) => Ok(count > 0),
            Err(error) if is_transient(&error) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// What the next frame wants, if one has come.
    pub fn next_wish(&mut self) -> Result<Option<Wish>> {
        let Some(frame) = self.buffer.next_frame()? else {
            return Ok(None);
        };
        let bytes = encoded(&frame);
        let number = frame.header.session;
        let message = self.decoder.decode(frame)?;
        let wish = match (number, message) {
            (MACHINE, Some(Message::PowerOff)) => Wish::Stop,
            (MACHINE, Some(Message::Hello(_))) => Wish::Nothing,
            (FIRST_SESSION, None | Some(Message::Exec(_))) if self.session.is_some() => {
                bail!("the command has an execution already");
            }
            (FIRST_SESSION, None) => {
                self.begun.extend(bytes);
                Wish::Nothing
            }
            (FIRST_SESSION, Some(Message::Exec(_))) => {
                let mut frames = std::mem::take(&mut self.begun);
                frames.extend(bytes);
                Wish::Open(frames)
            }
            // What was under way when the execution ended goes nowhere.
            (FIRST_SESSION, Some(_)) if self.session.is_none() => Wish::Nothing,
            (FIRST_SESSION, Some(_)) => Wish::Forward(bytes),
            (number, _) => bail!("the command may not speak in session {number}"),
        };
        Ok(Some(wish))
    }
}

/// A frame as it came.
pub fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    [&frame.header.encode()[..], frame.payload].concat()
}

/// Gives all of `frames`, one or more whole ones, another session.
pub fn renumber(frames: &mut [u8], session: u32) {
    let mut rest = frames;
    while let Some((bytes, behind)) = rest.split_first_chunk_mut() {
        let Ok(header) = Header::decode(bytes) else {
            return;
        };
        *bytes = Header { session, ..header }.encode();
        let length = behind.len().min(header.length as usize);
        rest = &mut behind[length..];
    }
}

/// Writes what `stream` takes, and says how much that was.
pub fn write(mut stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use guest::protocol::{Exec, MAX_PAYLOAD};

    use super::*;

    /// A client that has sent `messages` of session `session`.
    fn client(session: u32, messages: &[Message<'_>]) -> Client {
        let (here, there) = UnixStream::pair().unwrap();
        let mut bytes = Vec::new();
        for message in messages {
            message.encode(session, &mut bytes).unwrap();
        }
        (&here).write_all(&bytes).unwrap();
        let mut client = Client::new(there).unwrap();
        assert!(client.read().unwrap());
        client
    }

    fn exec(argument: usize) -> Message<'static> {
        let argv = vec!["x".repeat(argument).into()];
        Message::Exec(Box::new(Exec {
            argv,
            ..Exec::default()
        }))
    }

    #[test]
    fn a_power_off_is_a_wish_for_the_end() {
        let mut client = client(MACHINE, &[Message::PowerOff]);
        assert_eq!(client.next_wish().unwrap(), Some(Wish::Stop));
        assert_eq!(client.next_wish().unwrap(), None);
    }

    #[test]
    fn an_execution_is_opened_when_it_has_come_as_a_whole() {
        let mut client = client(FIRST_SESSION, &[exec(MAX_PAYLOAD)]);
        let mut wishes = Vec::new();
        while let Some(wish) = client.next_wish().unwrap() {
            wishes.push(wish);
        }
        let mut frames = Vec::new();
        exec(MAX_PAYLOAD)
            .encode(FIRST_SESSION, &mut frames)
            .unwrap();
        assert_eq!(wishes, [Wish::Nothing, Wish::Open(frames)]);
    }

    #[test]
    fn a_second_execution_at_a_time_is_an_error() {
        let mut client = client(FIRST_SESSION, &[exec(1)]);
        client.session = Some(9);
        let error = client.next_wish().unwrap_err().to_string();
        assert_eq!(error, "the command has an execution already");
    }

    #[test]
    fn what_comes_after_the_end_goes_nowhere() {
        let mut client = client(FIRST_SESSION, &[Message::Signal(2), Message::Signal(2)]);
        assert_eq!(client.next_wish().unwrap(), Some(Wish::Nothing));
        client.session = Some(9);
        let mut frame = Vec::new();
        Message::Signal(2)
            .encode(FIRST_SESSION, &mut frame)
            .unwrap();
        assert_eq!(client.next_wish().unwrap(), Some(Wish::Forward(frame)));
    }

    #[test]
    fn sessions_of_others_are_out_of_reach() {
        let mut client = client(2, &[Message::Signal(9)]);
        let error = client.next_wish().unwrap_err().to_string();
        assert_eq!(error, "the command may not speak in session 2");
    }

    #[test]
    fn all_frames_of_an_execution_are_renumbered() {
        let (mut frames, mut expected) = (Vec::new(), Vec::new());
        exec(2 * MAX_PAYLOAD).encode(1, &mut frames).unwrap();
        exec(2 * MAX_PAYLOAD).encode(77, &mut expected).unwrap();
        renumber(&mut frames, 77);
        assert_eq!(frames, expected);
    }
}
