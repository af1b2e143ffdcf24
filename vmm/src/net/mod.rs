//! The machine's network: the host's side of each card, and what the guest is told of it.
//!
//! ```text
//! guest ── virtio-net ── stream socket ── passt ── the host's own sockets      type "user"
//! guest ── virtio-net ── tap ── the host's routes, or a bridge                 types "tap", "bridge"
//! ```
//!
//! The guest's init sets addresses, routes and name servers as it is told here: no DHCP.

mod handed;
mod passt;
mod published;
mod resolver;
mod routes;
mod socket;
mod tap;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use devices::virtio::net as device;

use crate::app::{App, Interface, InterfaceKind, Mac, Port, Rate, Subnet};
pub use handed::Handed;
use passt::Passt;
pub use published::{Socket, take};
pub use socket::{BACKLOG, SocketFile, UnixSocket};
use tap::Tap;

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
    pub fn open(app: &App, ports: &[Port]) -> anyhow::Result<Self> {
        let mut network = Self {
            cards: Vec::new(),
            passt: None,
            filters: Vec::new(),
            links: Vec::new(),
            name_servers: Vec::new(),
            ports: ports.to_vec(),
        };
        for (nth, interface) in app.interfaces().iter().enumerate() {
            network
                .add(app, nth, interface)
                .with_context(|| format!("interfaces[{nth}]"))?;
        }
        if !network.cards.is_empty() {
            network.name_servers = resolver::name_servers();
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

    fn add(&mut self, app: &App, nth: usize, interface: &Interface) -> anyhow::Result<()> {
        let mut link = Link {
            name: interface.name(nth),
            mac: interface.mac.unwrap_or_else(|| mac(app, nth, interface)),
            mtu: interface.mtu(),
            addresses: interface.addresses.clone(),
            gateways: interface.gateway.into_iter().collect(),
        };
        let backend: Box<dyn device::Backend> = match interface.kind {
            InterfaceKind::User => {
                let routes = routes::Default::of_host();
                let (passt, stream) = Passt::start(routes, &self.ports)?;
                self.passt = Some(passt);
                (link.addresses, link.gateways) = passt::addresses(routes);
                Box::new(device::Stream::new(stream).context("cannot use a socket")?)
            }
            InterfaceKind::Network => anyhow::bail!("this mvm makes no networks of machines"),
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
}

/// A card's address that stays the same from one start to the next, and is another for each
/// machine's name and card (FNV-1a; locally administered, IEEE 802 §8.4).
fn mac(app: &App, nth: usize, interface: &Interface) -> Mac {
    let words = [
        &app.name,
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
        let app = |name: &str| App::new(name, vec!["sh".into()]);
        let tap = Interface {
            host_name: Some("tap0".into()),
            ..Interface::default()
        };
        let user = Interface::default();
        let macs = [
            mac(&app("web"), 0, &user),
            mac(&app("web"), 1, &user),
            mac(&app("db"), 0, &user),
            mac(&app("web"), 0, &tap),
        ];
        assert_eq!(macs[0], mac(&app("web"), 0, &user));
        for (nth, one) in macs.iter().enumerate() {
            assert_eq!(one.0[0], 2);
            assert!(!macs[..nth].contains(one), "{one}");
        }
    }

    #[test]
    fn a_machine_that_asks_for_no_network_has_none() {
        let network = Network::open(&App::new("a", vec!["sh".into()]), &[]).unwrap();
        assert!(network.cards.is_empty() && network.name_servers.is_empty());
    }
}
