//! The host's side: QEMU is told which ports lead inside, over its machine protocol (QMP).

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vmm::app::{Port, Protocol};
use vmm::net::settle;

use super::{Answer, Forward, Question, Wish, line, receive};
use crate::emulator::network::{ADDRESS, NETDEV, PORTS};
use crate::output::say;

/// For QEMU to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Answers what is asked over `inside` until that ends, by QEMU's machine protocol at `monitor`.
///
/// # Errors
/// QEMU does not answer.
pub fn serve(inside: UnixStream, monitor: UnixStream) -> Result<()> {
    let mut forwards = Forwards {
        monitor: Monitor::new(monitor)?,
        taken: BTreeSet::new(),
    };
    let mut reader = BufReader::new(inside);
    loop {
        match receive::<Question>(&mut reader) {
            Ok(Some(question)) => {
                let outcome = forwards.grant(question.wish);
                let answer = Answer {
                    id: question.id,
                    outcome: outcome.map_err(|error| format!("{error:#}")),
                };
                reader.get_mut().write_all(&line(&answer)?)?;
            }
            Ok(None) => return Ok(()),
            // Who asked was killed in the middle of it.
            Err(error) => say(format_args!("emulated host: a question is lost: {error:#}")),
        }
    }
}

/// What leads inside.
struct Forwards<M> {
    monitor: M,
    /// Ports inside that something leads to.
    taken: BTreeSet<u16>,
}

/// QEMU's monitor for people, which alone knows about forwarded ports.
trait Ask {
    /// One command, and what it prints.
    fn ask(&mut self, command: &str) -> Result<String>;
}

impl<M: Ask> Forwards<M> {
    fn grant(&mut self, wish: Wish) -> Result<Vec<Forward>> {
        match wish {
            Wish::Publish(ports) => self.publish(&ports),
            Wish::Withdraw(forwards) => {
                for forward in &forwards {
                    self.withdraw(forward);
                }
                Ok(Vec::new())
            }
        }
    }

    /// All of them, or none.
    fn publish(&mut self, ports: &[Port]) -> Result<Vec<Forward>> {
        if let Some((nth, port)) = (0..).zip(ports).find(|(_, port)| port.address.is_ipv6()) {
            bail!(
                "ports[{nth}]: cannot listen on {}: the emulated host is reached by IPv4 alone",
                port.address
            );
        }
        let mut forwards = Vec::new();
        for port in settle(ports)? {
            match self.add(port) {
                Ok(forward) => forwards.push(forward),
                Err(error) => {
                    for forward in &forwards {
                        self.withdraw(forward);
                    }
                    return Err(error);
                }
            }
        }
        Ok(forwards)
    }

    fn add(&mut self, port: Port) -> Result<Forward> {
        let inside = free_row(&self.taken, port.guest.count())
            .context("no ports are left in the emulated host")?;
        let forward = Forward { port, inside };
        for (at, inside) in forward.each() {
            let rule = rule(forward.port.protocol, at);
            let words = self
                .monitor
                .ask(&format!("hostfwd_add {NETDEV} {rule}-{ADDRESS}:{inside}"))?;
            if !words.trim().is_empty() {
                self.withdraw(&forward);
                bail!("cannot listen on {at}: {}", words.trim());
            }
            self.taken.insert(inside);
        }
        Ok(forward)
    }

    /// What does not lead inside any more, or never did, is left.
    fn withdraw(&mut self, forward: &Forward) {
        for (at, inside) in forward.each() {
            if self.taken.remove(&inside) {
                let rule = rule(forward.port.protocol, at);
                // A monitor that does not answer is told of at the next question.
                let _ = self.monitor.ask(&format!("hostfwd_remove {NETDEV} {rule}"));
            }
        }
    }
}

impl Forward {
    /// Each address of the host with its port inside.
    fn each(&self) -> impl Iterator<Item = (SocketAddr, u16)> + use<> {
        let address = self.port.address;
        let hosts = self.port.host.first..=self.port.host.last;
        hosts
            .zip(self.inside..)
            .map(move |(host, inside)| ((address, host).into(), inside))
    }
}

/// QEMU's words for a port of the host.
fn rule(protocol: Protocol, at: SocketAddr) -> String {
    format!("{protocol}:{at}")
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

/// QEMU's machine protocol, of which only the way to its monitor for people is needed.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut monitor = Self(BufReader::new(stream));
        // The greeting.
        monitor.hear()?;
        monitor.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    fn execute(&mut self, command: &Value) -> Result<Value> {
        let stream = self.0.get_mut();
        stream
            .write_all(&line(command)?)
            .context("cannot ask the emulator")?;
        loop {
            let mut answer = self.hear()?;
            if let Some(error) = answer.get("error") {
                bail!("the emulator refuses: {error}");
            }
            // Events come in between.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn hear(&mut self) -> Result<Value> {
        let heard = receive(&mut self.0).context("cannot hear the emulator")?;
        heard.context("the emulator has ended")
    }
}

impl Ask for Monitor {
    fn ask(&mut self, command: &str) -> Result<String> {
        let answer = self.execute(&json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": command },
        }))?;
        let words = answer.as_str();
        ensure!(words.is_some(), "the emulator answers {answer}");
        Ok(words.unwrap_or_default().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses what contains a word, and notes the rest.
    struct Noted(Vec<String>, &'static str);

    impl Ask for Noted {
        fn ask(&mut self, command: &str) -> Result<String> {
            if command.contains(self.1) {
                return Ok("no\r\n".into());
            }
            self.0.push(command.into());
            Ok(String::new())
        }
    }

    fn forwards(refused: &'static str) -> Forwards<Noted> {
        Forwards {
            monitor: Noted(Vec::new(), refused),
            taken: BTreeSet::new(),
        }
    }

    fn ports(texts: &[&str]) -> Vec<Port> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
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
        let mut forwards = forwards("nothing");
        let first = forwards.publish(&ports(&[":80", ":53/udp"])).unwrap();
        assert_eq!((first[0].inside, first[1].inside), (20_000, 20_001));
        let picked = first[0].port.host.first;
        forwards.grant(Wish::Withdraw(first)).unwrap();
        let removed = format!("hostfwd_remove net0 tcp:127.0.0.1:{picked}");
        assert_eq!(forwards.monitor.0[2], removed);
        assert!(forwards.taken.is_empty());
    }

    #[test]
    fn of_ports_that_cannot_all_be_had_none_stays() {
        let mut forwards = forwards("udp");
        let error = forwards.publish(&ports(&[":80", ":53/udp"])).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"));
        assert!(forwards.taken.is_empty());
        assert!(forwards.monitor.0[1].starts_with("hostfwd_remove net0 tcp:127.0.0.1:"));
    }

    #[test]
    fn ipv6_is_refused_by_name() {
        let error = forwards("nothing").publish(&ports(&["[::1]:8080:80"]));
        let words = error.unwrap_err().to_string();
        assert!(
            words.starts_with("ports[0]: cannot listen on ::1: "),
            "{words}"
        );
    }
}
