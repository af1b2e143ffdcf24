//! Reading messages out of frames, and which side may send which.
//!
//! The one thing to know: this is where the host meets a hostile guest. A frame is checked here on
//! its own; what depends on a session's state (credit, order) is the session's to check.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::frame::MORE;
use super::message::kind;
use super::{
    Exit, Frame, Header, Hello, MACHINE, MAX_BODY, MAX_REASON, MAX_SESSIONS, Message, Side, Stream,
    WINDOW,
};

/// Makes messages of the frames that one side receives.
pub struct Decoder {
    from: Side,
    /// Bodies of which more frames must come, by session; only the host sends such.
    bodies: BTreeMap<u32, Vec<u8>>,
}

impl Decoder {
    /// For the frames that `from` sends.
    pub fn new(from: Side) -> Self {
        Self {
            from,
            bodies: BTreeMap::new(),
        }
    }

    /// What `frame` says; `None` if its body goes on in a later frame.
    pub fn decode<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Message<'a>>> {
        let Header {
            session,
            kind,
            flags,
            ..
        } = frame.header;
        self.check(session, kind, flags)?;
        if matches!(kind, kind::SETUP | kind::EXEC) {
            return self.body(frame);
        }
        parse(kind, frame.payload, self.from)
            .map(Some)
            .with_context(|| format!("bad frame of kind {kind}"))
    }

    /// Whether this side may send such a frame in such a session.
    fn check(&self, session: u32, kind: u16, flags: u16) -> Result<()> {
        let either = matches!(kind, kind::HELLO | kind::EOF | kind::CREDIT | kind::CLOSE);
        let expected = match self.from {
            Side::Host => matches!(
                kind,
                kind::SETUP
                    | kind::POWER_OFF
                    | kind::CLOCK
                    | kind::EXEC
                    | kind::CONNECT
                    | kind::DATA
                    | kind::RESIZE
                    | kind::SIGNAL
                    | kind::DETACH
            ),
            Side::Guest => matches!(
                kind,
                kind::SETUP_DONE
                    | kind::FAILED
                    | kind::TIME
                    | kind::STARTED
                    | kind::EXEC_FAILED
                    | kind::STDOUT
                    | kind::STDERR
                    | kind::EXIT
                    | kind::DETACHED
            ),
        };
        ensure!(either || expected, "unexpected frame of kind {kind}");
        ensure!(
            (session == MACHINE) == (kind < kind::EXEC),
            "frame of kind {kind} in session {session}"
        );
        ensure!(
            flags & MORE == 0 || matches!(kind, kind::SETUP | kind::EXEC),
            "frame of kind {kind} is cut in pieces"
        );
        Ok(())
    }

    fn body<'a>(&mut self, frame: Frame<'a>) -> Result<Option<Message<'a>>> {
        let Header {
            session,
            kind,
            flags,
            ..
        } = frame.header;
        let begun = self.bodies.remove(&session);
        let whole = match begun {
            None if flags & MORE == 0 => return parse_body(kind, frame.payload).map(Some),
            None => frame.payload.to_vec(),
            Some(mut begun) => {
                begun.extend_from_slice(frame.payload);
                begun
            }
        };
        ensure!(
            whole.len() <= MAX_BODY,
            "body of session {session} is longer than {MAX_BODY} bytes"
        );
        if flags & MORE == 0 {
            return parse_body(kind, &whole).map(Some);
        }
        ensure!(
            self.bodies.len() <= MAX_SESSIONS,
            "more than {MAX_SESSIONS} bodies at once"
        );
        self.bodies.insert(session, whole);
        Ok(None)
    }
}

fn parse_body<'a>(kind: u16, json: &[u8]) -> Result<Message<'a>> {
    Ok(if kind == kind::SETUP {
        Message::Setup(serde_json::from_slice(json).context("cannot read the setup")?)
    } else {
        Message::Exec(serde_json::from_slice(json).context("cannot read the execution")?)
    })
}

fn parse(kind: u16, payload: &[u8], from: Side) -> Result<Message<'_>> {
    Ok(match kind {
        kind::HELLO => Message::Hello(Hello::decode(payload, from)?),
        kind::SETUP_DONE => {
            end(payload)?;
            Message::SetupDone
        }
        kind::FAILED => Message::Failed(reason(payload)?),
        kind::POWER_OFF => {
            end(payload)?;
            Message::PowerOff
        }
        kind::CLOCK => Message::Clock {
            shift_ns: i64::from_le_bytes(exactly(payload)?),
        },
        kind::TIME => Message::Time {
            now_ns: u64::from_le_bytes(exactly(payload)?),
        },
        kind::CONNECT => {
            Message::Connect(serde_json::from_slice(payload).context("cannot read an address")?)
        }
        kind::STARTED => Message::Started {
            pid: u32::from_le_bytes(exactly(payload)?),
        },
        kind::EXEC_FAILED => {
            let ([code], message) = split(payload)?;
            ensure!(
                (125..=127).contains(&code),
                "{code} is no status of a failed start"
            );
            Message::ExecFailed {
                code,
                message: reason(message)?,
            }
        }
        kind::DATA..=kind::STDERR => {
            ensure!(!payload.is_empty(), "data without a byte");
            Message::Data {
                stream: number_stream((kind - kind::DATA) as u8)?,
                bytes: payload,
            }
        }
        kind::EOF => Message::Eof(stream(exactly(payload)?, from, true)?),
        kind::CREDIT => {
            let (number, bytes) = split(payload)?;
            let bytes = u32::from_le_bytes(exactly(bytes)?);
            ensure!(
                (1..=WINDOW).contains(&bytes),
                "credit of {bytes} bytes, 1 to {WINDOW} are allowed"
            );
            Message::Credit {
                stream: stream(number, from, false)?,
                bytes,
            }
        }
        kind::CLOSE => Message::Close(stream(exactly(payload)?, from, false)?),
        kind::RESIZE => {
            let [r0, r1, c0, c1] = exactly(payload)?;
            Message::Resize {
                rows: u16::from_le_bytes([r0, r1]),
                cols: u16::from_le_bytes([c0, c1]),
            }
        }
        kind::SIGNAL => {
            let [signal] = exactly(payload)?;
            ensure!((1..=64).contains(&signal), "there is no signal {signal}");
            Message::Signal(signal)
        }
        kind::DETACH => {
            end(payload)?;
            Message::Detach
        }
        kind::DETACHED => {
            end(payload)?;
            Message::Detached
        }
        kind::EXIT => Message::Exit(match exactly(payload)? {
            [0, code] => Exit::Code(code),
            [1, signal @ 1..=64] => Exit::Signal(signal),
            [how, value] => bail!("there is no exit {how}, {value}"),
        }),
        _ => bail!("there is no such kind"),
    })
}

fn number_stream(number: u8) -> Result<Stream> {
    Ok(match number {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => bail!("there is no stream {number}"),
    })
}

/// The stream that a frame names, if `from` is its sender (or else its receiver).
fn stream([number]: [u8; 1], from: Side, is_sender: bool) -> Result<Stream> {
    let stream = number_stream(number)?;
    ensure!(
        (stream.sender() == from) == is_sender,
        "{stream:?} goes the other way"
    );
    Ok(stream)
}

/// A reason is shown to the user: its control bytes must not reach the terminal.
fn reason(payload: &[u8]) -> Result<String> {
    ensure!(
        payload.len() <= MAX_REASON,
        "message of {} bytes, at most {MAX_REASON} are allowed",
        payload.len()
    );
    let text = std::str::from_utf8(payload).context("message is not UTF-8")?;
    Ok(text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect())
}

/// The first `N` bytes, and what follows them.
pub(super) fn split<const N: usize>(payload: &[u8]) -> Result<([u8; N], &[u8])> {
    let (first, rest) = payload
        .split_first_chunk::<N>()
        .with_context(|| format!("{} bytes are too few", payload.len()))?;
    Ok((*first, rest))
}

/// All bytes, which must be `N`.
fn exactly<const N: usize>(payload: &[u8]) -> Result<[u8; N]> {
    let (first, rest) = split(payload)?;
    end(rest)?;
    Ok(first)
}

/// Fails unless nothing is left.
pub(super) fn end(rest: &[u8]) -> Result<()> {
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}
