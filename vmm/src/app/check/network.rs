//! Network cards, ports of the host, and names.

use std::collections::BTreeMap;

use super::super::interface::{
    MAX_ADDRESSES, MAX_ALIASES, MAX_INTERFACE_NAME_SIZE, MAX_MTU, MIN_MTU,
};
use super::super::names::{MAX_HOST_ADDRESSES, MAX_HOSTS, MAX_SERVERS, MAX_WORD_SIZE, MAX_WORDS};
use super::super::{
    Addresses, Dns, HostEnd, Interface, MAX_INTERFACES, MAX_PORTS, Port, PortRange, Protocol,
};
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
        self.at_most(aliases.len(), MAX_ALIASES, "names", place.clone());
        for (nth, alias) in aliases.iter().take(MAX_ALIASES).enumerate() {
            self.network_name(alias, MAX_HOSTNAME_SIZE, place.clone().index(nth));
        }
    }

    /// As a host name, but that tables of names do not mind "_".
    fn network_name(&mut self, name: &str, most: usize, place: Place) {
        let allowed = format!(
            "1 to {most} letters, digits, \"-\", \"_\" and \".\", with a letter, digit or \"_\" around each \".\""
        );
        let is_good = name.len() <= most && name.replace('_', "x").split('.').all(is_label);
        self.expect(is_good, place, allowed, quoted(name));
    }

    fn at_most(&mut self, count: usize, most: usize, what: &str, place: Place) {
        let allowed = format_args!("at most {most} {what}");
        self.expect(count <= most, place, allowed, count);
    }

    pub(super) fn hosts(&mut self, hosts: &BTreeMap<String, Addresses>) {
        let place = Place::root().key("hosts");
        self.at_most(hosts.len(), MAX_HOSTS, "names", place.clone());
        for (name, Addresses(addresses)) in hosts.iter().take(MAX_HOSTS) {
            let place = place.clone().key(name.clone());
            self.network_name(name, MAX_HOSTNAME_SIZE, place.clone());
            let allowed = format_args!("1 to {MAX_HOST_ADDRESSES} addresses");
            let is_good = (1..=MAX_HOST_ADDRESSES).contains(&addresses.len());
            self.expect(is_good, place, allowed, addresses.len());
        }
    }

    pub(super) fn dns(&mut self, dns: &Dns) {
        let here = |key: &'static str| Place::root().key("dns").key(key);
        self.at_most(dns.servers.len(), MAX_SERVERS, "servers", here("servers"));
        self.at_most(dns.search.len(), MAX_WORDS, "domains", here("search"));
        self.at_most(dns.options.len(), MAX_WORDS, "options", here("options"));
        for (nth, domain) in dns.search.iter().take(MAX_WORDS).enumerate() {
            self.network_name(domain, MAX_WORD_SIZE, here("search").index(nth));
        }
        for (nth, option) in dns.options.iter().take(MAX_WORDS).enumerate() {
            let is_word = (1..=MAX_WORD_SIZE).contains(&option.len())
                && option.bytes().all(|byte| byte.is_ascii_graphic());
            let allowed = "a word of resolv.conf(5) such as \"ndots:2\"";
            self.expect(is_word, here("options").index(nth), allowed, quoted(option));
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
