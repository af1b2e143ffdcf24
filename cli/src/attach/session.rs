//! The host's books on one execution: what the guest may send next.
//!
//! The one thing to know: the guest is hostile. The window is what bounds the memory that it can
//! make the host take, so data beyond it is an error rather than kept.

use anyhow::{Result, bail, ensure};
use guest::protocol::{Message, Stream, WINDOW};

use super::Outcome;

/// What a message means for the streams.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Nothing,
    Started,
    Output(Stream, &'a [u8]),
    /// The guest has room for so many bytes more.
    InputCredit(u32),
    /// The program reads no more.
    InputClosed,
    Ended(Outcome),
}

pub(super) struct Session {
    has_started: bool,
    /// Whether the guest was told to go on without the host.
    is_left: bool,
    /// Standard output, standard error.
    outputs: [Window; 2],
}

/// One output of the program.
struct Window {
    /// Bytes that the guest may still send.
    credit: u32,
    /// Whether the guest said that there is no more.
    has_ended: bool,
    /// Whether the host's reader has gone; what comes is thrown away.
    is_closed: bool,
}

impl Session {
    pub(super) fn new() -> Self {
        let window = || Window {
            credit: WINDOW,
            has_ended: false,
            is_closed: false,
        };
        Self {
            has_started: false,
            is_left: false,
            outputs: [window(), window()],
        }
    }

    /// Checks a message and says what it means.
    pub(super) fn receive<'a>(&mut self, message: &Message<'a>) -> Result<Event<'a>> {
        match message {
            Message::Started { .. } | Message::ExecFailed { .. } => {
                ensure!(!self.has_started, "the program was started twice");
            }
            _ => ensure!(self.has_started, "{} before the start", name(message)),
        }
        Ok(match message {
            Message::Started { .. } => {
                self.has_started = true;
                Event::Started
            }
            Message::ExecFailed { code, message } => Event::Ended(Outcome::Refused {
                code: *code,
                message: message.clone(),
            }),
            Message::Data { stream, bytes } => {
                let window = self.window(*stream)?;
                ensure!(!window.has_ended, "{stream:?} goes on after its end");
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let Some(credit) = window.credit.checked_sub(length) else {
                    bail!(
                        "{length} bytes of {stream:?} with credit for {}",
                        window.credit
                    );
                };
                window.credit = credit;
                if window.is_closed {
                    Event::Nothing
                } else {
                    Event::Output(*stream, bytes)
                }
            }
            Message::Eof(stream) => {
                let window = self.window(*stream)?;
                ensure!(!window.has_ended, "{stream:?} ends twice");
                window.has_ended = true;
                Event::Nothing
            }
            Message::Credit { bytes, .. } => Event::InputCredit(*bytes),
            Message::Close(_) => Event::InputClosed,
            Message::Exit(exit) => Event::Ended(Outcome::Exited(*exit)),
            Message::Detached => {
                ensure!(self.is_left, "{} that was not asked for", name(message));
                Event::Ended(Outcome::Detached)
            }
            _ => bail!("{} within an execution", name(message)),
        })
    }

    /// The host leaves. True if the guest must be told.
    pub(super) fn leave(&mut self) -> bool {
        !std::mem::replace(&mut self.is_left, true)
    }

    /// So many bytes have been passed on: the guest may send as many more.
    pub(super) fn written(&mut self, stream: Stream, bytes: u32) {
        if let Ok(window) = self.window(stream) {
            window.credit = window.credit.saturating_add(bytes).min(WINDOW);
        }
    }

    /// The stream's reader has gone. True if the guest must be told.
    pub(super) fn close(&mut self, stream: Stream) -> bool {
        match self.window(stream) {
            Ok(window) => !std::mem::replace(&mut window.is_closed, true) && !window.has_ended,
            Err(_) => false,
        }
    }

    fn window(&mut self, stream: Stream) -> Result<&mut Window> {
        Ok(match stream {
            Stream::Stdout => &mut self.outputs[0],
            Stream::Stderr => &mut self.outputs[1],
            Stream::Stdin => bail!("input comes from the guest"),
        })
    }
}

/// A message's name, without what it carries.
pub(super) fn name(message: &Message<'_>) -> &'static str {
    match message {
        Message::Started { .. } => "the start of a program",
        Message::ExecFailed { .. } => "the refusal of a program",
        Message::Data { .. } => "data",
        Message::Eof(_) => "the end of a stream",
        Message::Credit { .. } => "credit",
        Message::Close(_) => "the close of a stream",
        Message::Exit(_) => "an exit",
        Message::Detached => "a leave",
        _ => "a message of the machine",
    }
}

#[cfg(test)]
mod tests {
    use guest::protocol::Exit;

    use super::*;

    fn started() -> Session {
        let mut session = Session::new();
        session.receive(&Message::Started { pid: 2 }).unwrap();
        session
    }

    fn data(bytes: &[u8]) -> Message<'_> {
        Message::Data {
            stream: Stream::Stdout,
            bytes,
        }
    }

    fn refusal(session: &mut Session, message: &Message<'_>) -> String {
        session.receive(message).unwrap_err().to_string()
    }

    #[test]
    fn data_within_the_window_is_passed_on() {
        let mut session = started();
        let event = session.receive(&data(b"abc")).unwrap();
        assert_eq!(event, Event::Output(Stream::Stdout, b"abc"));
    }

    #[test]
    fn data_beyond_the_window_is_an_error() {
        let mut session = started();
        let bytes = vec![0; WINDOW as usize];
        session.receive(&data(&bytes)).unwrap();
        session.written(Stream::Stdout, 2);
        session.receive(&data(b"a")).unwrap();
        let error = refusal(&mut session, &data(b"bc"));
        assert_eq!(error, "2 bytes of Stdout with credit for 1");
    }

    #[test]
    fn a_closed_stream_still_has_a_window() {
        let mut session = started();
        let bytes = vec![0; WINDOW as usize];
        assert!(session.close(Stream::Stdout));
        assert!(!session.close(Stream::Stdout));
        assert_eq!(session.receive(&data(&bytes)).unwrap(), Event::Nothing);
        assert!(session.receive(&data(b"a")).is_err());
    }

    #[test]
    fn an_end_is_the_last_of_its_stream() {
        let mut session = started();
        session.receive(&Message::Eof(Stream::Stdout)).unwrap();
        let twice = refusal(&mut session, &Message::Eof(Stream::Stdout));
        let more = refusal(&mut session, &data(b"a"));
        assert_eq!(twice, "Stdout ends twice");
        assert_eq!(more, "Stdout goes on after its end");
    }

    #[test]
    fn nothing_comes_before_the_start() {
        let mut session = Session::new();
        let error = refusal(&mut session, &Message::Exit(Exit::Code(0)));
        assert_eq!(error, "an exit before the start");
    }

    #[test]
    fn a_program_starts_once() {
        let mut session = started();
        let again = refusal(&mut session, &Message::Started { pid: 3 });
        let failed = Message::ExecFailed {
            code: 127,
            message: String::new(),
        };
        assert_eq!(again, "the program was started twice");
        assert_eq!(refusal(&mut session, &failed), again);
    }

    #[test]
    fn who_has_not_gone_is_not_left() {
        let mut session = started();
        let error = refusal(&mut session, &Message::Detached);
        assert_eq!(error, "a leave that was not asked for");
        assert!(session.leave());
        assert!(!session.leave());
        let event = session.receive(&Message::Detached).unwrap();
        assert_eq!(event, Event::Ended(Outcome::Detached));
    }

    #[test]
    fn messages_of_the_machine_are_errors() {
        let mut session = started();
        let error = refusal(&mut session, &Message::SetupDone);
        assert_eq!(error, "a message of the machine within an execution");
    }
}
