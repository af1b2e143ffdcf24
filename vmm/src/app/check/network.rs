//! Network cards, and ports of the host.

use super::super::interface::{
    MAX_ADDRESSES, MAX_ALIASES, MAX_INTERFACE_NAME_SIZE, MAX_MTU, MIN_MTU,
};
use super::super::{HostEnd, Interface, MAX_INTERFACES, MAX_PORTS, Port, PortRange, Protocol};
use super::{Check, MAX_HOSTNAME_SIZE, Place, is_label, quoted};

impl Check {
    pub(super) fn interfaces(&mut self, interfaces: &[Interface]) {
        let place = Place::root().key("interfaces");
        self.expect(
            interfaces.len() <= MAX_INTERFACES,
            place.clone(),
            format_args!("at most {MAX_INTERFACES} interfaces"),
            interfaces.len(),
        );
        for (nth, interface) in interfaces.iter().take(MAX_INTERFACES).enumerate() {
            let here = |key: &'static str| place.clone().index(nth).key(key);
            for (key, name) in [
                ("name", &interface.name),
                ("hostName", &interface.host_name),
                ("bridge", &interface.bridge),
            ] {
                if let Some(name) = name {
                    self.interface_name(name, here(key));
                }
            }
            if let Some(mtu) = interface.mtu {
                self.expect(
                    (MIN_MTU..=MAX_MTU).contains(&mtu),
                    here("mtu"),
                    format_args!("from {MIN_MTU} to {MAX_MTU}"),
                    mtu,
                );
            }
            self.expect(
                interface.addresses.len() <= MAX_ADDRESSES,
                here("addresses"),
                format_args!("at most {MAX_ADDRESSES} addresses"),
                interface.addresses.len(),
            );
            if let Some(rate) = &interface.rate_limit {
                self.rate(rate, &here("rateLimit"));
            }
            if let Some(network) = &interface.network {
                self.shared_name(network, here("network"));
            }
            self.aliases(&interface.aliases, &here("aliases"));
        }
    }

    fn aliases(&mut self, aliases: &[String], place: &Place) {
        self.expect(
            aliases.len() <= MAX_ALIASES,
            place.clone(),
            format_args!("at most {MAX_ALIASES} names"),
            aliases.len(),
        );
        let allowed = format!(
            "1 to {MAX_HOSTNAME_SIZE} letters, digits, \"-\", \"_\" and \".\", with a letter, digit or \"_\" around each \".\""
        );
        for (nth, alias) in aliases.iter().take(MAX_ALIASES).enumerate() {
            // As a host name, but that the tables of a network do not mind "_".
            let is_good = alias.len() <= MAX_HOSTNAME_SIZE
                && alias.replace('_', "x").split('.').all(is_label);
            self.expect(is_good, place.clone().index(nth), &allowed, quoted(alias));
        }
    }

    fn interface_name(&mut self, name: &str, place: Place) {
        let is_good = (1..=MAX_INTERFACE_NAME_SIZE).contains(&name.len())
            && !matches!(name, "." | "..")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        let allowed =
            format!("1 to {MAX_INTERFACE_NAME_SIZE} letters, digits, \"_\", \".\" and \"-\"");
        self.expect(is_good, place, allowed, quoted(name));
    }

    pub(super) fn ports(&mut self, ports: &[Port]) {
        let place = Place::root().key("ports");
        let count = ports
            .iter()
            .fold(0usize, |sum, port| sum.saturating_add(port.guest.count()));
        self.expect(
            count <= MAX_PORTS,
            place.clone(),
            format_args!("at most {MAX_PORTS} ports"),
            count,
        );
        for (nth, port) in ports.iter().enumerate() {
            let guest = port.guest;
            let mut complain = |key: &'static str, message: String| {
                self.complain(place.clone().index(nth).key(key), message);
            };
            if guest.first == 0 {
                complain("guest", format!("must be from 1 to 65535, is {guest}"));
            }
            let host = match &port.host {
                HostEnd::Ports(host) => *host,
                socket @ (HostEnd::Socket(_) | HostEnd::Handed(_)) => {
                    if let Some(message) = socket.fault() {
                        complain("host", message);
                    }
                    if guest.count() != 1 {
                        complain(
                            "guest",
                            format!("a socket leads to one port of the machine, not to {guest}"),
                        );
                    }
                    if port.protocol != Protocol::Tcp {
                        complain("protocol", "is \"tcp\" where the host has a socket".into());
                    }
                    continue;
                }
            };
            if host == PortRange::default() {
                if guest.count() != 1 {
                    complain(
                        "host",
                        format!(
                            "0, a port that is free, leads to one port of the machine, not to \
                             {guest}; for several name as many of the host's"
                        ),
                    );
                }
            } else if host.first == 0 {
                complain(
                    "host",
                    format!("0 is any port that is free and begins no row, is {host}"),
                );
            } else if host.count() != guest.count() {
                complain(
                    "host",
                    format!(
                        "must be as many ports as the machine's {guest}, which are {}; {host} are {}",
                        guest.count(),
                        host.count()
                    ),
                );
            }
        }
    }
}
