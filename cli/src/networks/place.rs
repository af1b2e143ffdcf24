//! A machine's places in networks: had before it starts, and again when a network was killed.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use switch::hello::{self, Join, Welcome};
use vmm::app::{App, Interface, Mac, Subnet};
use vmm::net::{Joins, Place};

use super::process::reach;
use crate::lasting;

/// Networks that ended just when they were asked, before something is wrong.
const ENDED_MAX: u32 = 10;

/// Attempts to join again, each after a pause that doubles up to the longest: for ten minutes.
const REJOIN_ATTEMPTS: u32 = 65;
const REJOIN_PAUSE: Duration = Duration::from_millis(50);
const REJOIN_PAUSE_MAX: Duration = Duration::from_secs(10);

/// The networks of one machine, which do not end as long as this is kept.
pub struct Places {
    machine: String,
    hostname: String,
    /// Connections that have not said yet who comes.
    reserved: BTreeMap<String, UnixStream>,
}

impl Places {
    /// Has the networks of `app` there, for the machine that is called `machine`.
    ///
    /// By itself, before the machine has limits: what is started here is not the machine's.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn reserve(app: &App, machine: String) -> Result<Self> {
        let mut reserved = BTreeMap::new();
        for network in app.interfaces().into_iter().filter_map(|it| it.network) {
            let stream = reach(&network)?;
            reserved.insert(network, stream);
        }
        let hostname = app.hostname().to_owned();
        Ok(Self {
            machine,
            hostname,
            reserved,
        })
    }
}

impl Joins for Places {
    fn machine(&self) -> &str {
        &self.machine
    }

    fn join(&mut self, interface: &Interface, mac: Mac) -> Result<Place> {
        let network = interface.network.clone().context("it has no network")?;
        let wanted = interface.addresses.first();
        let mut aliases: Vec<_> = [&self.hostname]
            .into_iter()
            .chain(&interface.aliases)
            .collect();
        aliases.sort();
        aliases.dedup();
        let mut join = Join {
            version: hello::VERSION,
            name: self.machine.clone(),
            aliases: aliases.into_iter().cloned().collect(),
            mac: mac.0,
            address: wanted.and_then(|subnet| ipv4(subnet.address)),
        };
        let reserved = self.reserved.remove(&network);
        let (stream, welcome) = enter(&network, reserved, &join)?;
        let address = Subnet {
            address: welcome.address.into(),
            prefix: welcome.prefix,
        };
        ensure!(
            wanted.is_none_or(|wanted| *wanted == address),
            "addresses: in network {network} it must be {address}"
        );
        // The one that the guest has by then.
        join.address = Some(welcome.address);
        Ok(Place {
            stream,
            rejoin: Box::new(move || rejoin(&network, &join)),
            address,
            name_server: welcome.name_server.into(),
            mtu: welcome.mtu,
        })
    }

    fn later(&self) -> Result<Command> {
        let mut command = lasting::command_here()?;
        command.args(["network", "later", "--detach", "--"]);
        Ok(command)
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Joins a network over a connection to it, or over another one where that has ended.
fn enter(
    network: &str,
    mut stream: Option<UnixStream>,
    join: &Join,
) -> Result<(UnixStream, Welcome)> {
    let mut ended = 0;
    loop {
        let connected = match stream.take() {
            Some(stream) => stream,
            None => reach(network)?,
        };
        match hello::join(&connected, join.clone()) {
            Ok(welcome) => return Ok((connected, welcome)),
            Err(error) if error.is::<hello::Ended>() && ended < ENDED_MAX => ended += 1,
            Err(error) => return Err(error.context(format!("cannot join network {network}"))),
        }
    }
}

/// Joins a network again whose process has ended, for a machine that runs.
fn rejoin(network: &str, join: &Join) -> io::Result<UnixStream> {
    let mut pause = REJOIN_PAUSE;
    let mut outcome = enter(network, None, join);
    for _ in 1..REJOIN_ATTEMPTS {
        if outcome.is_ok() {
            break;
        }
        thread::sleep(pause);
        pause = pause.saturating_mul(2).min(REJOIN_PAUSE_MAX);
        outcome = enter(network, None, join);
    }
    match outcome {
        Ok((stream, _)) => Ok(stream),
        Err(error) => Err(io::Error::other(format!("{error:#}"))),
    }
}
