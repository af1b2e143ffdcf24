//! Ports of the host that lead to machines of the emulated host.
//!
//! ```text
//! 127.0.0.1:8080 ── carrier ── serial port ── agent ── 127.0.0.1:20000 ── passt ── port 80 of the machine
//! ```
//!
//! The one thing to know: a machine's monitor asks for them from inside, over a serial port of the
//! emulated host whose other end the process that owns QEMU has. That listens at them, and carries
//! who comes over another such port. So they come and go with the machine, whichever command
//! started it. `holder.rs` is the side that asks, `forwards.rs` the other. `keeper.rs` is a command
//! that systemd has handed sockets to, outside.

mod forwards;
mod holder;
mod keeper;

use std::io::{self, BufRead, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm::app::{HostEnd, Port, PortRange};

pub use forwards::serve;
pub use holder::{Published, hold};
pub use keeper::Keeper;

/// Name of the serial port for questions.
pub const PORT_NAME: &str = "mvm.ports";

/// Name of the one that connections are carried over, by the agent's protocol. QEMU's own way in
/// (`hostfwd`) lets one connection wait at a time, and drops what the others send first.
pub const CARRIER_NAME: &str = "mvm.carrier";

/// Where published ports are inside: nobody but this kernel's own programs comes there.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Bytes of a line: far more than the ports of a machine need.
const LINE_MAX: u64 = 1 << 20;

/// What is asked from inside: a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// Another one for each, so that no answer to one that was killed is taken for one's own.
    id: u64,
    wish: Wish,
}

#[derive(Debug, Serialize, Deserialize)]
enum Wish {
    /// Have these lead inside.
    Publish {
        ports: Vec<Port>,
        /// Who has the sockets that systemd has handed over.
        keeper: Option<PathBuf>,
    },
    /// No longer those that the question of that number asked for.
    Withdraw(u64),
}

/// The line that answers it.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    id: u64,
    outcome: Outcome,
}

/// Those that lead inside, or why they do not.
type Outcome = Result<Vec<Forward>, String>;

/// A port of the host, or several in a row, that lead inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Forward {
    /// With the number that was picked.
    port: Port,
    /// The first of as many inside.
    inside: u16,
}

impl Forward {
    /// What the machine's own network is to publish inside.
    fn inside(&self) -> Port {
        let guest = self.port.guest;
        Port {
            address: ADDRESS,
            host: HostEnd::Ports(PortRange {
                first: self.inside,
                last: self.inside.saturating_add(guest.last - guest.first),
            }),
            ..self.port.clone()
        }
    }
}

/// One line that is not empty; none at the end.
fn receive<T: DeserializeOwned>(mut from: impl BufRead) -> Result<Option<T>> {
    let mut line = Vec::new();
    while line.trim_ascii().is_empty() {
        line.clear();
        match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            read => read.context("cannot read a line")?,
        };
    }
    ensure!(line.ends_with(b"\n"), "a line has no end");
    Ok(Some(serde_json::from_slice(&line)?))
}

/// A value as a line.
fn line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_a_port_has_another_number_and_leads_to_the_same() {
        let forward = Forward {
            port: "0.0.0.0:5000-5009:6000-6009/udp".parse().unwrap(),
            inside: 20_000,
        };
        assert_eq!(
            forward.inside().to_string(),
            "127.0.0.1:20000-20009:6000-6009/udp"
        );
    }

    #[test]
    fn a_line_ends_and_what_follows_is_the_next() {
        let mut text = &b"[1]\n\r\n[2]\n[3"[..];
        assert_eq!(receive::<Vec<u8>>(&mut text).unwrap(), Some(vec![1]));
        assert_eq!(receive::<Vec<u8>>(&mut text).unwrap(), Some(vec![2]));
        assert!(receive::<Vec<u8>>(&mut text).is_err());
        assert_eq!(receive::<Vec<u8>>(&mut text).unwrap(), None);
    }
}
