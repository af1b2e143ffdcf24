//! What a machine's monitor and the switch tell each other before frames go: a line of JSON each.
//!
//! The one thing to know: the monitor speaks here, not its guest. The socket is this user's alone.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::Mac;

/// Of these lines.
pub const VERSION: u32 = 1;

/// Bytes of what who joins says: a name and as many others as there may be.
pub const HELLO_BYTES_MAX: usize = 8192;

/// Bytes of an answer, which may list all machines with all of their names.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// For an answer, which takes no work.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A port for a machine.
    Join(Join),
    /// Who is there.
    List,
}

/// A machine that wants to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// [`VERSION`].
    pub version: u32,
    /// Its name, which no other machine of this user has.
    pub name: String,
    /// What else it is called.
    pub aliases: Vec<String>,
    /// Its card's address.
    pub mac: Mac,
    /// The address that it wants; without one it gets the one that it had, or one by its name.
    pub address: Option<Ipv4Addr>,
}

/// What the switch answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Join`]; frames follow, both ways.
    Welcome(Welcome),
    /// To [`Request::List`].
    Members(Network),
    /// It cannot be done; why.
    Error(String),
}

/// What a machine is to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of the network's part of it.
    pub prefix: u8,
    /// Where it asks for names.
    pub name_server: Ipv4Addr,
    /// The largest packet, in bytes.
    pub mtu: u16,
}

/// A network and its machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub subnet: String,
    /// The switch's process.
    pub pid: u32,
    /// Its machines, by their names.
    pub members: Vec<Member>,
    /// What went through, and what did not.
    pub counters: Counters,
}

/// A machine in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its card's address, six bytes.
    pub mac: String,
    /// What else it is called.
    pub aliases: Vec<String>,
}

/// Frames by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Given to a machine, once for each that got it.
    pub delivered: u64,
    /// For the switch itself.
    pub answered: u64,
    /// Dropped: too short or long, or not what it says that it is.
    pub malformed: u64,
    /// Dropped: from an address that its machine does not have.
    pub spoofed: u64,
    /// Dropped: of a protocol that the network does not carry.
    pub foreign: u64,
    /// Dropped: to nobody.
    pub unknown: u64,
    /// Dropped: its machine does not read as fast as others send.
    pub overrun: u64,
    /// Dropped: to all, of so many that others would wait for them.
    pub storm: u64,
}

/// Joins the network whose switch is at the other end of `stream`, which carries frames from then on.
///
/// # Errors
/// The switch says why not, or does not answer.
pub fn join(stream: &UnixStream, join: Join) -> Result<Welcome> {
    match ask(stream, &Request::Join(join))? {
        Answer::Welcome(welcome) => Ok(welcome),
        answer => bail!("the switch answers something else: {answer:?}"),
    }
}

/// Who is in the network whose switch is at the other end of `stream`.
///
/// # Errors
/// The switch does not answer.
pub fn list(stream: &UnixStream) -> Result<Network> {
    match ask(stream, &Request::List)? {
        Answer::Members(network) => Ok(network),
        answer => bail!("the switch answers something else: {answer:?}"),
    }
}

/// The end of a switch just when somebody came; another one can be asked.
#[derive(Debug)]
pub struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the switch has ended")
    }
}

impl std::error::Error for Ended {}

fn ask(mut stream: &UnixStream, request: &Request) -> Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    if stream.write_all(&line(request)?).is_err() {
        return Err(Ended.into());
    }
    let answer = read_line(stream)?;
    stream.set_read_timeout(None)?;
    match serde_json::from_slice(&answer).context("the switch answers no JSON")? {
        Answer::Error(words) => bail!(words),
        answer => Ok(answer),
    }
}

/// A value as a line.
///
/// # Errors
/// It is none that JSON can have.
pub fn line<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).context("cannot write JSON")?;
    line.push(b'\n');
    Ok(line)
}

/// Reads to the end of the line and no further: frames are behind it.
fn read_line(mut stream: &UnixStream) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Err(Ended.into()),
            Ok(_) if byte == *b"\n" => return Ok(line),
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Err(Ended.into());
            }
            Err(error) => return Err(error).context("the switch does not answer"),
        }
        ensure!(
            line.len() < ANSWER_BYTES_MAX,
            "the switch's answer is too long"
        );
    }
}
