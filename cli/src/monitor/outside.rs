//! What of the host's network leads to the machine, and is led to by it.

use std::net::SocketAddr;
use std::path::Path;

use vmm::app::{App, HostEnd, Port};
use vmm::net::Network;

use super::carried::Carried;
use crate::accel::is_inside;
use crate::emulator::{self, Published};
use crate::networks::Places;
use crate::output::say;
use crate::systemd::Sockets;

/// The host's side of a machine's network.
pub struct Outside {
    /// Its cards.
    pub network: Network,
    /// The host's sockets that lead to it by way of its monitor.
    pub carried: Carried,
    /// In the emulated host, those of its own host.
    published: Option<Published>,
}

impl Outside {
    /// All that `app` asks for, with the sockets that systemd has handed over, and its places in
    /// networks.
    ///
    /// # Errors
    /// The host does not let it have that.
    pub fn open(app: &App, sockets: Sockets, mut places: Places) -> anyhow::Result<Self> {
        sockets.tell_unused(&app.ports);
        let published = publish(&app.ports, sockets.keeper.as_deref())?;
        let ports = published
            .as_ref()
            .map_or(&app.ports, |outside| &outside.inside);
        let carried = Carried::open(app, ports, sockets.handed)?;
        Ok(Self {
            network: Network::open(app, &carried.others, &mut places)?,
            carried,
            published,
        })
    }

    /// Waits until who connects is heard; the ports of the host, with the numbers that were picked for
    /// those that were `wanted`.
    ///
    /// # Errors
    /// What carries the network has failed.
    pub fn wait_until_ready(&mut self, wanted: &[Port]) -> anyhow::Result<Vec<Port>> {
        self.network.wait_until_ready()?;
        let published = self.published.as_ref();
        let ports = published.map_or(&self.carried.ports, |outside| &outside.ports);
        tell_picked(wanted, ports);
        Ok(ports.clone())
    }
}

/// In the emulated host's network: has the host's own ports lead here. `keeper` has the sockets that
/// systemd has handed over.
fn publish(ports: &[Port], keeper: Option<&Path>) -> anyhow::Result<Option<Published>> {
    let is_needed = !ports.is_empty() && is_inside() && emulator::is_in_network();
    is_needed
        .then(|| Published::open(ports, keeper))
        .transpose()
}

/// Tells which ports were picked, where it was left to mvm.
fn tell_picked(wanted: &[Port], ports: &[Port]) {
    for (wanted, port) in wanted.iter().zip(ports) {
        let is_picked = wanted.host == HostEnd::default();
        if let Some(host) = port.host.ports().filter(|_| is_picked) {
            let at = SocketAddr::from((port.address, host.first));
            say(format_args!(
                "{at} leads to port {}/{}",
                port.guest, port.protocol
            ));
        }
    }
}
