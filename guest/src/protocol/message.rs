//! Messages: what the two sides say to each other, and its form on the wire.
//!
//! The one thing to know: a body that does not fit one frame (only [`Setup`] and [`Exec`] may be so
//! long) is cut, and all its frames but the last are flagged. Leaves out reading: see `decode.rs`.

use anyhow::{Context, Result, ensure};

use super::frame::MORE;
use super::{Connect, Exec, HEADER_SIZE, Header, Hello, MAX_BODY, MAX_PAYLOAD, MAX_REASON, Setup};

/// The kinds of frames; those of the machine's session come before `EXEC`.
pub(super) mod kind {
    pub const HELLO: u16 = 1;
    pub const SETUP: u16 = 2;
    pub const SETUP_DONE: u16 = 3;
    pub const FAILED: u16 = 4;
    pub const POWER_OFF: u16 = 5;
    pub const CLOCK: u16 = 6;
    pub const TIME: u16 = 7;
    pub const EXEC: u16 = 16;
    pub const STARTED: u16 = 17;
    pub const EXEC_FAILED: u16 = 18;
    /// Data: this plus the stream's number.
    pub const DATA: u16 = 19;
    pub const STDOUT: u16 = 20;
    pub const STDERR: u16 = 21;
    pub const EOF: u16 = 22;
    pub const CREDIT: u16 = 23;
    pub const CLOSE: u16 = 24;
    pub const RESIZE: u16 = 25;
    pub const SIGNAL: u16 = 26;
    pub const EXIT: u16 = 27;
    pub const CONNECT: u16 = 28;
    pub const DETACH: u16 = 29;
    pub const DETACHED: u16 = 30;
}

/// An end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `mvm`, or what passes its frames on.
    Host,
    /// The program inside the machine.
    Guest,
}

/// A stream of bytes of one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Host to guest.
    Stdin = 0,
    /// Guest to host; with a terminal, all that the terminal shows.
    Stdout = 1,
    /// Guest to host; unused with a terminal.
    Stderr = 2,
}

impl Stream {
    /// Which side sends this stream's data.
    pub fn sender(self) -> Side {
        match self {
            Self::Stdin => Side::Host,
            Self::Stdout | Self::Stderr => Side::Guest,
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Exit {
    /// The status a shell would show: the code, or 128 plus the signal.
    pub fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Both ways, machine: the first message.
    Hello(Hello),
    /// Host to guest, machine, once: what to prepare.
    Setup(Box<Setup>),
    /// Guest to host, machine: the setup is in place.
    SetupDone,
    /// Guest to host, machine: the guest cannot go on and resets itself; says why.
    Failed(String),
    /// Host to guest, machine: end all that runs and switch off.
    PowerOff,
    /// Host to guest, machine: move the clock, and say what time it is.
    Clock {
        /// By so many nanoseconds; 0 leaves it.
        shift_ns: i64,
    },
    /// Guest to host, machine: the answer.
    Time {
        /// Nanoseconds since 1970.
        now_ns: u64,
    },
    /// Host to guest: opens a session.
    Exec(Box<Exec>),
    /// Host to guest: opens a session that is a connection. Data may follow at once.
    Connect(Connect),
    /// Guest to host: the program runs.
    Started {
        /// Its process number in the guest.
        pid: u32,
    },
    /// Guest to host: the program does not run, or nobody is connected; the session's last frame.
    ExecFailed {
        /// 125 (the guest failed), 126 (cannot be executed) or 127 (not found).
        code: u8,
        /// Why, in one line.
        message: String,
    },
    /// Bytes of a stream, at least one; they use up credit.
    Data {
        /// Which stream.
        stream: Stream,
        /// The bytes, binary.
        bytes: &'a [u8],
    },
    /// From a stream's sender: no data follows.
    Eof(Stream),
    /// From a stream's receiver: this many bytes more may be sent.
    Credit {
        /// Which stream.
        stream: Stream,
        /// 1 to [`WINDOW`].
        bytes: u32,
    },
    /// From a stream's receiver: its reader has gone, data is thrown away from here on. The sender
    /// closes its end, so that a writer meets `EPIPE` as it would without a machine between.
    Close(Stream),
    /// Host to guest: the terminal's new size.
    Resize {
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        cols: u16,
    },
    /// Host to guest: a signal for the execution's process group.
    Signal(u8),
    /// Host to guest: the program shall go on without it, also when the connection ends. Its input
    /// ends, unless that is a terminal, and what it says is thrown away.
    Detach,
    /// Guest to host: it does; the session's last frame. Its number is taken until the program ends.
    Detached,
    /// Guest to host: the program ended, or the connection is over both ways; the session's last
    /// frame.
    Exit(Exit),
}

/// The header of a data frame whose `length` bytes the caller sends itself.
pub fn data_header(session: u32, stream: Stream, length: usize) -> [u8; HEADER_SIZE] {
    debug_assert!((1..=MAX_PAYLOAD).contains(&length));
    Header {
        session,
        kind: kind::DATA + stream as u16,
        flags: 0,
        length: length as u32,
    }
    .encode()
}

impl Message<'_> {
    /// Appends this message's frame, or frames, to `out`. Fails if a body is larger than
    /// [`MAX_BODY`], or data larger than [`MAX_PAYLOAD`].
    pub fn encode(&self, session: u32, out: &mut Vec<u8>) -> Result<()> {
        use kind::{
            CLOCK, CLOSE, CONNECT, CREDIT, DATA, DETACH, DETACHED, EOF, EXEC, EXEC_FAILED, EXIT,
            FAILED, HELLO, POWER_OFF, RESIZE, SETUP, SETUP_DONE, SIGNAL, STARTED, TIME,
        };
        match self {
            Message::Hello(hello) => put(out, session, HELLO, &hello.encode()),
            Message::Setup(setup) => {
                let body = serde_json::to_vec(setup).context("cannot encode the setup")?;
                return put_body(out, session, SETUP, &body);
            }
            Message::SetupDone => put(out, session, SETUP_DONE, &[]),
            Message::Failed(reason) => put(out, session, FAILED, cut(reason).as_bytes()),
            Message::PowerOff => put(out, session, POWER_OFF, &[]),
            Message::Clock { shift_ns } => put(out, session, CLOCK, &shift_ns.to_le_bytes()),
            Message::Time { now_ns } => put(out, session, TIME, &now_ns.to_le_bytes()),
            Message::Exec(exec) => {
                let body = serde_json::to_vec(exec).context("cannot encode the execution")?;
                return put_body(out, session, EXEC, &body);
            }
            Message::Connect(connect) => {
                let body = serde_json::to_vec(connect).context("cannot encode an address")?;
                put(out, session, CONNECT, &body);
            }
            Message::Started { pid } => put(out, session, STARTED, &pid.to_le_bytes()),
            Message::ExecFailed { code, message } => {
                let body = [&[*code], cut(message).as_bytes()].concat();
                put(out, session, EXEC_FAILED, &body);
            }
            Message::Data { stream, bytes } => {
                ensure!(
                    (1..=MAX_PAYLOAD).contains(&bytes.len()),
                    "{} bytes of data do not fit one frame",
                    bytes.len()
                );
                put(out, session, DATA + *stream as u16, bytes);
            }
            Message::Eof(stream) => put(out, session, EOF, &[*stream as u8]),
            Message::Credit { stream, bytes } => {
                let [b0, b1, b2, b3] = bytes.to_le_bytes();
                put(out, session, CREDIT, &[*stream as u8, b0, b1, b2, b3]);
            }
            Message::Close(stream) => put(out, session, CLOSE, &[*stream as u8]),
            Message::Resize { rows, cols } => {
                let [r0, r1] = rows.to_le_bytes();
                let [c0, c1] = cols.to_le_bytes();
                put(out, session, RESIZE, &[r0, r1, c0, c1]);
            }
            Message::Signal(signal) => put(out, session, SIGNAL, &[*signal]),
            Message::Detach => put(out, session, DETACH, &[]),
            Message::Detached => put(out, session, DETACHED, &[]),
            Message::Exit(Exit::Code(code)) => put(out, session, EXIT, &[0, *code]),
            Message::Exit(Exit::Signal(signal)) => put(out, session, EXIT, &[1, *signal]),
        }
        Ok(())
    }

    /// Whether the session is closed by this message of the guest.
    pub fn ends_session(&self) -> bool {
        matches!(
            self,
            Message::Exit(_) | Message::ExecFailed { .. } | Message::Detached
        )
    }
}

fn put(out: &mut Vec<u8>, session: u32, kind: u16, payload: &[u8]) {
    put_flagged(out, session, kind, 0, payload);
}

fn put_flagged(out: &mut Vec<u8>, session: u32, kind: u16, flags: u16, payload: &[u8]) {
    let header = Header {
        session,
        kind,
        flags,
        length: payload.len() as u32,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

fn put_body(out: &mut Vec<u8>, session: u32, kind: u16, body: &[u8]) -> Result<()> {
    ensure!(
        body.len() <= MAX_BODY,
        "arguments and environment are {} bytes, at most {MAX_BODY} can be passed on",
        body.len()
    );
    let mut chunks = body.chunks(MAX_PAYLOAD).peekable();
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_some() { MORE } else { 0 };
        put_flagged(out, session, kind, flags, chunk);
    }
    Ok(())
}

/// The part of `reason` that the other side accepts.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
