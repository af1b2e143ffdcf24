//! What is said over a machine's control socket: a line of JSON each way.
//!
//! The one thing to know: after the answer to [`Request::Agent`] the connection is the guest agent's,
//! and its protocol that of `guest::protocol`; after that to [`Request::Attach`] it is the audience's.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm::app::{App, Port, StoreData};

use super::statistics::Statistics;
use crate::machines::record::End;

/// Both sides are `mvm`, but a machine may have been started by an older one.
pub const VERSION: u32 = 1;

/// Bytes of a line; the longest carries an app.json.
const MAX_LINE: u64 = 16 << 20;

/// What a client says first, and all that it says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What it wants.
    #[serde(flatten)]
    pub request: Request,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// What the machine is.
    Info,
    /// The same, once it is not this any more, or after a moment.
    News {
        /// Whether it was ready.
        ready: bool,
        /// What its checks said.
        health: Option<HealthStatus>,
    },
    /// What it has used and done so far.
    Statistics,
    /// To talk to the guest's agent.
    Agent,
    /// To see what the program says, and to type to it; the same protocol.
    Attach,
    /// A signal for the program.
    Signal {
        /// Its number.
        signal: u8,
    },
    /// The machine switched off: its programs get SIGTERM and a moment.
    PowerOff,
    /// Its processors stopped.
    Pause,
    /// Its processors started again.
    Resume,
    /// More of the host's store shown to it.
    Show {
        /// The store paths.
        paths: Vec<String>,
        /// Those that Nix is to keep, with all that they refer to.
        roots: Vec<String>,
    },
    /// To tell from now on that it is what this says, for so it has become.
    Become {
        /// What it would be made from.
        app: Box<App>,
    },
    /// An answer once it has ended.
    Wait,
}

/// The machine's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done.
    Done,
    /// To [`Request::Info`] and [`Request::News`].
    Info(Box<Info>),
    /// To [`Request::Statistics`].
    Statistics(Box<Statistics>),
    /// To [`Request::Wait`].
    Ended(End),
    /// It cannot be done; why.
    Error(String),
}

/// What a running machine says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The monitor's process.
    pub pid: u32,
    /// Since when it runs.
    pub started: Timestamp,
    /// Whether its processors are stopped.
    pub paused: bool,
    /// Ports of the host that lead to it, with the numbers that were picked.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Its addresses, in the order of its interfaces.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Whether it is what its file means by ready. One of an older mvm is so once it answers.
    #[serde(default = "yes")]
    pub ready: bool,
    /// What its checks say, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What its program says of itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// How its store comes to it, if it has the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_data: Option<StoreData>,
    /// Why so, unless its file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_data_reason: Option<String>,
    /// What it was made from, with the edits of the command line.
    pub app: App,
}

const fn yes() -> bool {
    true
}

/// How a program does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// In a word.
    pub status: HealthStatus,
    /// Checks that have failed since the last that succeeded.
    pub failing: u32,
    /// The last check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Verdict>,
}

/// How a program does, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    /// Well.
    Healthy,
    /// Badly.
    Unhealthy,
}

impl HealthStatus {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::Starting, Self::Healthy, Self::Unhealthy];
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// When it ended.
    pub at: Timestamp,
    /// Whether it succeeded.
    pub is_good: bool,
    /// What it said, or why it failed.
    pub output: String,
}

/// Sends one line.
///
/// # Errors
/// The other side has gone.
pub fn send(stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stream = stream;
    stream.write_all(&line)
}

/// Receives one line, and not a byte more: what follows may be another protocol's.
///
/// # Errors
/// The other side has gone, or says what nobody understands.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> anyhow::Result<T> {
    let mut line = Vec::new();
    // A buffer of one byte: the line is short, or followed by nothing.
    BufReader::with_capacity(1, stream)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .context("cannot read from the control socket")?;
    if line.is_empty() {
        bail!("the control socket was closed");
    }
    ensure!(
        line.ends_with(b"\n"),
        "a line of the control socket has no end"
    );
    serde_json::from_slice(&line).context("cannot understand the control socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_line_is_left() {
        let (one, other) = UnixStream::pair().unwrap();
        send(
            &one,
            &Call {
                version: 1,
                request: Request::Signal { signal: 15 },
            },
        )
        .unwrap();
        (&one).write_all(b"rest").unwrap();
        let call: Call = receive(&other).unwrap();
        assert_eq!(call.request, Request::Signal { signal: 15 });
        let mut rest = [0; 4];
        (&other).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
    }

    #[test]
    fn the_words_on_the_wire_are_fixed() {
        let call = Call {
            version: 1,
            request: Request::PowerOff,
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(text, r#"{"version":1,"request":"power-off"}"#);
        let reply = serde_json::to_string(&Reply::Error("no".into())).unwrap();
        assert_eq!(reply, r#"{"error":"no"}"#);
    }

    #[test]
    fn an_app_is_heard_as_it_was_told() {
        let request = Request::Become {
            app: Box::new(App::new("web", vec!["sh".into()])),
        };
        let call = Call {
            version: 1,
            request,
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<Call>(&text).unwrap(), call);
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(b"{\"version\":1").unwrap();
        drop(one);
        let error = receive::<Call>(&other).unwrap_err().to_string();
        assert_eq!(error, "a line of the control socket has no end");
    }
}
