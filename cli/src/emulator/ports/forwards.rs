//! The host's side: sockets of the host that listen, and whose clients are carried inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vmm::app::Port;
use vmm::net::{SocketFile, take};

use super::{ADDRESS, Answer, Forward, LINE_MAX, Question, Wish, keeper, line};
use crate::attach::Connection;
use crate::carrier::{Carrier, Door, doors, target};
use crate::output::say;

/// For the emulated host to boot, and its agent to say hello. It gives up by itself before.
const HELLO_TIMEOUT: Duration = Duration::from_secs(90);

/// Inside, published ports have these numbers: below those that the kernel picks by itself.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// Answers what is asked over `inside`, and carries clients over `carrier`, until the emulated host
/// has ended.
///
/// # Errors
/// Its agent broke the protocol.
pub fn serve(mut inside: UnixStream, carrier: UnixStream) -> Result<()> {
    let agent = Connection::open(carrier, HELLO_TIMEOUT)?;
    let mut forwards = Forwards::new(Carrier::new(agent)?);
    let mut lines = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        if !forwards.doors.carry_until(Some(inside.as_fd()))? {
            return Ok(());
        }
        let count = inside.read(&mut bytes).context("cannot hear a question")?;
        if count == 0 {
            return Ok(());
        }
        lines.extend_from_slice(&bytes[..count]);
        ensure!(lines.len() as u64 <= LINE_MAX, "a question has no end");
        while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
            let question: Vec<u8> = lines.drain(..=end).collect();
            if question.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&question) {
                Ok(question) => inside.write_all(&line(&forwards.answer(question))?)?,
                // Who asked was killed in the middle of it.
                Err(error) => say(format_args!("emulated host: a question is lost: {error:#}")),
            }
        }
    }
}

/// What leads inside.
struct Forwards<D> {
    doors: D,
    /// By the number of the question that asked for them.
    granted: BTreeMap<u64, Granted>,
    /// Ports inside that something leads to.
    taken: BTreeSet<u16>,
}

/// What one question has asked for.
struct Granted {
    forwards: Vec<Forward>,
    /// Of its sockets; they go with it.
    _files: Vec<SocketFile>,
}

/// What clients come by.
trait Doors {
    fn open(&mut self, owner: u64, doors: Vec<Door>);
    fn close(&mut self, owner: u64);
}

impl Doors for Carrier {
    fn open(&mut self, owner: u64, doors: Vec<Door>) {
        self.open(owner, doors);
    }

    fn close(&mut self, owner: u64) {
        self.close(owner);
    }
}

impl<D: Doors> Forwards<D> {
    fn new(doors: D) -> Self {
        Self {
            doors,
            granted: BTreeMap::new(),
            taken: BTreeSet::new(),
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        let Question { id, wish } = question;
        let outcome = match wish {
            Wish::Publish { ports, keeper } => self.publish(id, &ports, keeper.as_deref()),
            Wish::Withdraw(id) => {
                self.withdraw(id);
                Ok(Vec::new())
            }
        };
        Answer {
            id,
            outcome: outcome.map_err(|error| format!("{error:#}")),
        }
    }

    /// All of them, or none.
    fn publish(&mut self, id: u64, ports: &[Port], keeper: Option<&Path>) -> Result<Vec<Forward>> {
        let mut handed = keeper.map(keeper::fetch).transpose()?.unwrap_or_default();
        let mut opened = Vec::new();
        let mut files = Vec::new();
        let mut forwards = Vec::new();
        let mut rows = self.taken.clone();
        for (port, sockets) in take(ports, &mut handed)? {
            let inside = free_row(&rows, port.guest.count())
                .context("no ports are left in the emulated host")?;
            for (socket, inside) in sockets.into_iter().zip(inside..) {
                rows.insert(inside);
                // The machine listens a little later.
                let target = target((ADDRESS, inside).into(), port.host.handed().is_some());
                let (doors, file) = doors(socket, target)?;
                opened.extend(doors);
                files.extend(file);
            }
            forwards.push(Forward { port, inside });
        }
        self.taken = rows;
        let granted = Granted {
            forwards: forwards.clone(),
            _files: files,
        };
        self.granted.insert(id, granted);
        self.doors.open(id, opened);
        Ok(forwards)
    }

    fn withdraw(&mut self, id: u64) {
        self.doors.close(id);
        let granted = self.granted.remove(&id);
        for forward in granted.map(|granted| granted.forwards).unwrap_or_default() {
            for inside in (forward.inside..).take(forward.port.guest.count()) {
                self.taken.remove(&inside);
            }
        }
    }
}

/// The first of `count` ports in a row that are not taken.
fn free_row(taken: &BTreeSet<u16>, count: usize) -> Option<u16> {
    let mut begin = *PORTS.start();
    let mut length = 0;
    for port in PORTS {
        if taken.contains(&port) {
            begin = port.saturating_add(1);
            length = 0;
            continue;
        }
        length += 1;
        if length == count {
            return Some(begin);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Doors that nobody carries for.
    #[derive(Default)]
    struct Held(BTreeMap<u64, Vec<Door>>);

    impl Doors for Held {
        fn open(&mut self, owner: u64, doors: Vec<Door>) {
            self.0.insert(owner, doors);
        }

        fn close(&mut self, owner: u64) {
            self.0.remove(&owner);
        }
    }

    fn ports(texts: &[&str]) -> Vec<Port> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn number(forward: &Forward) -> u16 {
        forward.port.host.ports().unwrap().first
    }

    #[test]
    fn a_row_is_found_behind_what_is_taken() {
        let start = *PORTS.start();
        assert_eq!(free_row(&BTreeSet::new(), 1), Some(start));
        let taken = BTreeSet::from([start, start + 3]);
        assert_eq!(free_row(&taken, 2), Some(start + 1));
        assert_eq!(free_row(&taken, 3), Some(start + 4));
        assert_eq!(free_row(&taken, PORTS.len()), None);
    }

    #[test]
    fn what_is_withdrawn_is_free_for_the_next() {
        let mut forwards = Forwards::new(Held::default());
        let granted = forwards
            .publish(7, &ports(&[":80", ":53/udp"]), None)
            .unwrap();
        assert_eq!((granted[0].inside, granted[1].inside), (20_000, 20_001));
        let at = ("127.0.0.1", number(&granted[0]));
        TcpStream::connect(at).unwrap();
        forwards.withdraw(7);
        assert!(forwards.taken.is_empty() && forwards.granted.is_empty());
        TcpListener::bind(at).unwrap();
    }

    #[test]
    fn of_ports_that_cannot_all_be_had_none_stays() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let mut forwards = Forwards::new(Held::default());
        let wanted = ports(&[":80", &format!("{number}:80")]);
        let error = forwards.publish(7, &wanted, None).unwrap_err().to_string();
        assert!(
            error.starts_with("ports[1]: cannot listen on 127.0.0.1:"),
            "{error}"
        );
        assert!(forwards.taken.is_empty() && forwards.doors.0.is_empty());
    }

    #[test]
    fn ipv6_leads_inside_by_ipv4() {
        let mut forwards = Forwards::new(Held::default());
        let granted = forwards.publish(7, &ports(&["[::1]:0:80"]), None).unwrap();
        assert!(granted[0].port.address.is_ipv6());
        assert!(granted[0].inside().address.is_ipv4());
        TcpStream::connect(("::1", number(&granted[0]))).unwrap();
    }
}
