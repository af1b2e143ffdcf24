//! Who gets a frame: the machines of a network, by the ports at which they are.
//!
//! The one thing to know: nothing is learnt from frames. Each machine's addresses are known before
//! its first frame, so no frame can take another's place, and what is for nobody goes nowhere.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::addresses::{Leases, PREFIX, Subnet};
use crate::frame::{Frame, Refusal, is_group};
use crate::hello::{Counters, Join, Member, Network, VERSION, Welcome};
use crate::host::{self, Sender};
use crate::names::Names;
use crate::{MTU, Mac};

/// A port's number; none is used twice.
pub type Port = u64;

/// The machines of a network.
#[derive(Debug)]
pub struct Fabric {
    name: String,
    subnet: Subnet,
    leases: Leases,
    names: Names,
    members: BTreeMap<Port, Machine>,
    ports: BTreeMap<Mac, Port>,
    /// What became of frames.
    pub counters: Counters,
}

/// A machine at a port.
#[derive(Debug)]
struct Machine {
    join: Join,
    address: Ipv4Addr,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody gets it.
    Drop,
    /// The switch is asked something, and this is the answer to who has sent it.
    Answer(Vec<u8>),
    /// The machine at that port gets it.
    Deliver(Port),
    /// All machines but the one that has sent it get it.
    Flood,
}

impl Fabric {
    /// The network `name`, without machines.
    pub fn new(name: &str) -> Self {
        let subnet = Subnet::of(name);
        Self {
            name: name.to_owned(),
            subnet,
            leases: Leases::new(subnet),
            names: Names::default(),
            members: BTreeMap::new(),
            ports: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// Whether there is no machine.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The ports of all machines but the one at `port`.
    pub fn others(&self, port: Port) -> impl Iterator<Item = Port> {
        let others = self.members.keys().copied();
        others.filter(move |other| *other != port)
    }

    /// The port of the machine called `name`.
    pub fn port_of(&self, name: &str) -> Option<Port> {
        let mut all = self.members.iter();
        all.find_map(|(port, machine)| (machine.join.name == name).then_some(*port))
    }

    /// A machine comes to `port`, which had none. One that is there by its name has left before.
    ///
    /// # Errors
    /// It cannot; says why.
    pub fn join(&mut self, port: Port, join: Join) -> Result<Welcome, String> {
        if join.version != VERSION {
            return Err("it is carried by another version of mvm".into());
        }
        if is_group(join.mac) || join.mac == host::MAC || self.ports.contains_key(&join.mac) {
            return Err(format!("{} is not this card's alone", shown(join.mac)));
        }
        let members = &self.members;
        let is_there = |name: &str| members.values().any(|machine| machine.join.name == name);
        let address = self.leases.take(&join.name, join.address, is_there)?;
        self.names.add(&join.name, join.aliases.iter(), address);
        self.ports.insert(join.mac, port);
        self.members.insert(port, Machine { join, address });
        Ok(Welcome {
            address,
            prefix: PREFIX,
            name_server: self.subnet.host(),
            mtu: MTU,
        })
    }

    /// The machine at `port` has gone, if one was there.
    pub fn leave(&mut self, port: Port) {
        if let Some(machine) = self.members.remove(&port) {
            self.ports.remove(&machine.join.mac);
            self.names.remove(machine.address);
        }
    }

    /// What becomes of a frame from the machine at `port`.
    pub fn pass(&mut self, port: Port, frame: &[u8]) -> Verdict {
        let Some(machine) = self.members.get(&port) else {
            return Verdict::Drop;
        };
        let (mac, address) = (machine.join.mac, machine.address);
        let frame = match Frame::check(frame, mac, address) {
            Ok(frame) => frame,
            Err(refusal) => {
                count(match refusal {
                    Refusal::Malformed => &mut self.counters.malformed,
                    Refusal::Spoofed => &mut self.counters.spoofed,
                    Refusal::Foreign => &mut self.counters.foreign,
                });
                return Verdict::Drop;
            }
        };
        if host::is_for(&frame, self.subnet.host()) {
            count(&mut self.counters.answered);
            let sender = Sender { mac, address };
            let answer = host::answer(&frame, sender, self.subnet.host(), &mut self.names);
            return answer.map_or(Verdict::Drop, Verdict::Answer);
        }
        if is_group(frame.to) {
            return Verdict::Flood;
        }
        match self.ports.get(&frame.to) {
            Some(other) if *other != port => Verdict::Deliver(*other),
            _ => {
                count(&mut self.counters.unknown);
                Verdict::Drop
            }
        }
    }

    /// What there is, for a list.
    pub fn told(&self) -> Network {
        let members = self.members.values().map(|machine| Member {
            name: machine.join.name.clone(),
            address: machine.address,
            mac: shown(machine.join.mac),
            aliases: machine.join.aliases.clone(),
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Network {
            name: self.name.clone(),
            subnet: format!("{}/{PREFIX}", self.subnet.base()),
            pid: std::process::id(),
            members,
            counters: self.counters,
        }
    }
}

/// One more.
pub fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}

fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests;
