//! The machine's network: the host's side of each card, and what the guest is told of it.
//!
//! ```text
//! guest ── virtio-net ── stream socket ── passt ── the host's own sockets      type "user"
//! guest ── virtio-net ── tap ── the host's routes, or a bridge                 types "tap", "bridge"
//! guest ── virtio-net ── stream socket ── a switch ── other machines           type "network"
//! ```
//!
//! The guest's init sets addresses, routes and name servers as it is told here: no DHCP.

mod handed;
mod passt;
mod patience;
mod published;
mod resolver;
mod routes;
mod socket;
mod tap;

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, bail};
use devices::virtio::net as device;

use crate::app::{App, Interface, InterfaceKind, Mac, Port, Rate, Subnet};
pub use device::Fetch as Rejoin;
pub use handed::Handed;
use passt::Passt;
pub use passt::start_later;
pub use published::{Socket, take};
pub use socket::{BACKLOG, SocketFile, UnixSocket};
use tap::Tap;

/// A machine's place in a network of machines.
pub struct Place {
    /// Frames.
    pub stream: UnixStream,
    /// How to come by another stream when that ends.
    pub rejoin: Rejoin,
    /// The machine's address there.
    pub address: Subnet,
    /// Where it asks for the names of others.
    pub name_server: IpAddr,
    /// The largest packet, in bytes.
    pub mtu: u16,
}

/// What one machine's network is made of that is not this crate's.
pub trait Joins {
    /// The machine's name, which no other of this user's that runs has.
    fn machine(&self) -> &str;

    /// A place in the network of `interface`, for a card with that address.
    ///
    /// # Errors
    /// The network does not let it in; says why.
    fn join(&mut self, interface: &Interface, mac: Mac) -> anyhow::Result<Place>;

    /// A command that has another process call [`start_later`], with the arguments that are added to it
    /// and the standard input that it is given, and ends.
    ///
    /// # Errors
    /// There is none to be had.
    fn later(&self) -> anyhow::Result<Command>;
}

/// The network of one machine, as long as this process lives.
pub struct Network {
    cards: Vec<device::Config>,
    passt: Option<Passt>,
    /// The packet filter's tables of taps, until the end.
    filters: Vec<tap::Filter>,
    /// What the guest is to set.
    pub links: Vec<Link>,
    /// Where the guest asks for names.
    pub name_servers: Vec<IpAddr>,
    /// The ports of the host that passt has lead to the machine.
    ports: Vec<Port>,
}

/// A card as the guest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its hardware address, by which it is found.
    pub mac: Mac,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// Its addresses.
    pub addresses: Vec<Subnet>,
    /// Where packets for all other networks go: one of each family.
    pub gateways: Vec<IpAddr>,
}

impl Network {
    /// Opens the host's side, where `ports` are to lead to the machine: those of `app` that are no
    /// sockets, with a number for each, but that they may be others' ways to them.
    ///
    /// # Errors
    /// A part cannot be had; says which key asks for it.
    pub fn open(app: &App, ports: &[Port], joins: &mut dyn Joins) -> anyhow::Result<Self> {
        let mut network = Self {
            cards: Vec::new(),
            passt: None,
            filters: Vec::new(),
            links: Vec::new(),
            name_servers: Vec::new(),
            ports: ports.to_vec(),
        };
        let mut leads_out = false;
        for (nth, interface) in app.interfaces().iter().enumerate() {
            network
                .add(app, nth, interface, joins)
                .with_context(|| format!("interfaces[{nth}]"))?;
            leads_out |= interface.kind != InterfaceKind::Network;
        }
        // Behind those of networks, which refuse to speak of names that are not theirs.
        if !app.dns.servers.is_empty() {
            network.name_servers.extend(&app.dns.servers);
        } else if leads_out {
            network.name_servers.extend(resolver::name_servers());
        }
        Ok(network)
    }

    /// The network cards, for [`crate::machine::Inputs`].
    pub fn take_cards(&mut self) -> Vec<device::Config> {
        std::mem::take(&mut self.cards)
    }

    /// Waits until the machine's ports can be connected to.
    ///
    /// # Errors
    /// passt could not start; says why.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        self.passt.take().map_or(Ok(()), Passt::wait_until_ready)
    }

    fn add(
        &mut self,
        app: &App,
        nth: usize,
        interface: &Interface,
        joins: &mut dyn Joins,
    ) -> anyhow::Result<()> {
        // In a network of machines there may be several that were made from one file.
        let name = match interface.kind {
            InterfaceKind::Network => joins.machine(),
            _ => &app.name,
        };
        let mut link = Link {
            name: interface.name(nth),
            mac: interface.mac.unwrap_or_else(|| mac(name, nth, interface)),
            mtu: interface.mtu(),
            addresses: interface.addresses.clone(),
            gateways: interface.gateway.into_iter().collect(),
        };
        let backend: Box<dyn device::Backend> = match interface.kind {
            InterfaceKind::User => {
                let routes = routes::Default::of_host();
                let stream = self.start_passt(routes, joins)?;
                (link.addresses, link.gateways) = passt::addresses(routes);
                Box::new(device::Stream::new(stream).context("cannot use a socket")?)
            }
            InterfaceKind::Network => {
                let place = joins.join(interface, link.mac)?;
                self.ensure_apart(place.address)?;
                link.mtu = link.mtu.min(place.mtu);
                link.addresses = vec![place.address];
                self.name_servers.push(place.name_server);
                let card = format!("net{nth}");
                Box::new(device::Rejoining::new(card, place.stream, place.rejoin)?)
            }
            InterfaceKind::Tap | InterfaceKind::Bridge => {
                let tap = Tap::open(interface, &mut link)?;
                self.filters.extend(tap.filter);
                Box::new(tap.device)
            }
        };
        self.cards.push(device::Config {
            name: format!("net{nth}"),
            mac: link.mac.0,
            mtu: link.mtu,
            backend,
            counters: Arc::default(),
            rate: interface.rate_limit.as_ref().map(Rate::of_device),
        });
        self.links.push(link);
        Ok(())
    }

    /// Starts passt now, if ports lead to the machine, or has it start once it is needed.
    fn start_passt(
        &mut self,
        routes: routes::Default,
        joins: &dyn Joins,
    ) -> anyhow::Result<UnixStream> {
        let (passt, stream) = if self.ports.is_empty() {
            Passt::leave_to(joins.later()?, routes)?
        } else {
            Passt::start(routes, &self.ports)?
        };
        self.passt = Some(passt);
        Ok(stream)
    }

    /// Whether no other link has addresses of the same network, of which a guest could use but one.
    fn ensure_apart(&self, new: Subnet) -> anyhow::Result<()> {
        let taken = |link: &&Link| link.addresses.iter().any(|address| overlap(*address, new));
        match self.links.iter().find(taken) {
            None => Ok(()),
            Some(link) => bail!(
                "its addresses, those around {new}, are the same as on {}; a network of another name has others",
                link.name
            ),
        }
    }
}

/// Whether two networks have addresses in common.
fn overlap(one: Subnet, other: Subnet) -> bool {
    let bits = u32::from(one.prefix.min(other.prefix));
    match (one.address, other.address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differing = one.to_bits() ^ other.to_bits();
            differing.leading_zeros() >= bits
        }
        _ => false,
    }
}

/// A card's address that stays the same from one start to the next, and is another for each
/// machine's name and card (FNV-1a; locally administered, IEEE 802 §8.4).
fn mac(name: &str, nth: usize, interface: &Interface) -> Mac {
    let words = [
        name,
        &nth.to_string(),
        interface.host_name.as_deref().unwrap_or_default(),
    ];
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut mac = [2; 6];
    mac[1..].copy_from_slice(&hash.to_be_bytes()[..5]);
    Mac(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_and_differ() {
        let tap = Interface {
            host_name: Some("tap0".into()),
            ..Interface::default()
        };
        let user = Interface::default();
        let macs = [
            mac("web", 0, &user),
            mac("web", 1, &user),
            mac("db", 0, &user),
            mac("web", 0, &tap),
        ];
        assert_eq!(macs[0], mac("web", 0, &user));
        for (nth, one) in macs.iter().enumerate() {
            assert_eq!(one.0[0], 2);
            assert!(!macs[..nth].contains(one), "{one}");
        }
    }

    #[test]
    fn a_machine_that_asks_for_no_network_has_none() {
        let app = App::new("a", vec!["sh".into()]);
        let network = Network::open(&app, &[], &mut Lan::default()).unwrap();
        assert!(network.cards.is_empty() && network.name_servers.is_empty());
    }

    /// Gives the first machine of each network the address 10.64.0.2, but for the last of them.
    #[derive(Default)]
    struct Lan(Vec<UnixStream>);

    impl Joins for Lan {
        fn machine(&self) -> &'static str {
            "a-2"
        }

        fn join(&mut self, interface: &Interface, given: Mac) -> anyhow::Result<Place> {
            assert_eq!(given, mac("a-2", self.0.len(), interface));
            let (stream, theirs) = UnixStream::pair()?;
            self.0.push(theirs);
            let name = interface.network.as_deref().unwrap();
            let third = u8::from(name == "other");
            Ok(Place {
                stream,
                rejoin: Box::new(|| Err(std::io::Error::other("none"))),
                address: format!("10.64.{third}.2/24").parse().unwrap(),
                name_server: format!("10.64.{third}.1").parse()?,
                mtu: 9000,
            })
        }

        fn later(&self) -> anyhow::Result<Command> {
            bail!("no machine has a way out")
        }
    }

    fn in_networks(names: &[&str]) -> anyhow::Result<Network> {
        let mut app = App::new("a", vec!["sh".into()]);
        let interfaces = names.iter().map(|name| Interface {
            kind: InterfaceKind::Network,
            network: Some((*name).into()),
            ..Interface::default()
        });
        app.interfaces = Some(interfaces.collect());
        Network::open(&app, &[], &mut Lan::default())
    }

    #[test]
    fn a_network_says_what_the_guest_is_to_set() {
        let network = in_networks(&["shop", "other"]).unwrap();
        assert_eq!(network.cards.len(), 2);
        let link = &network.links[1];
        assert_eq!((&*link.name, link.mtu), ("eth1", 9000));
        assert_eq!(link.addresses, ["10.64.1.2/24".parse().unwrap()]);
        assert!(link.gateways.is_empty());
        // The host's would be out of reach.
        let servers = ["10.64.0.1", "10.64.1.1"].map(|server| server.parse::<IpAddr>().unwrap());
        assert_eq!(network.name_servers, servers);
    }

    #[test]
    fn two_networks_of_the_same_addresses_are_refused() {
        let error = in_networks(&["shop", "shop-2"]).err().unwrap();
        assert_eq!(
            format!("{error:#}"),
            "interfaces[1]: its addresses, those around 10.64.0.2/24, are the same as on eth0; a network of another name has others"
        );
    }
}
