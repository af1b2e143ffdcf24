//! Interfaces and ports that do not go together.

use std::collections::BTreeMap;

use super::super::place::Place;
use super::super::problem::Complaint;
use super::super::quote::quoted;
use super::super::{App, HostEnd, Interface, InterfaceKind, MAX_INTERFACES, MAX_PORTS, Protocol};

/// Complaints about them.
pub fn between(app: &App, complaints: &mut Vec<Complaint>) {
    let interfaces = app.interfaces();
    if interfaces.len() <= MAX_INTERFACES {
        for (nth, interface) in interfaces.iter().enumerate() {
            let mut complain = |key: &'static str, message: String| {
                let place = Place::root().key("interfaces").index(nth);
                complaints.push(Complaint {
                    place: if key.is_empty() {
                        place
                    } else {
                        place.key(key)
                    },
                    message,
                });
            };
            keys_of_kinds(interface, &mut complain);
            networks_of_two(interface, &mut complain);
            gateway(interface, &mut complain);
            twins(&interfaces, nth, &mut complain);
        }
    }
    ports(app, &interfaces, complaints);
    sockets(app, complaints);
}

type Complain<'a> = &'a mut dyn FnMut(&'static str, String);

/// Keys that only one kind of interface has.
fn keys_of_kinds(interface: &Interface, complain: Complain<'_>) {
    let kind = interface.kind;
    let is_tap = matches!(kind, InterfaceKind::Tap | InterfaceKind::Bridge);
    if kind == InterfaceKind::Bridge && interface.bridge.is_none() {
        complain(
            "type",
            "\"bridge\" needs `bridge`, the name of the host's".into(),
        );
    }
    let only = |kinds: &str| format!("is of no use unless type is {kinds}");
    if kind != InterfaceKind::Bridge && interface.bridge.is_some() {
        complain("bridge", only("\"bridge\""));
    }
    keys_of_networks(interface, complain);
    if !is_tap && interface.host_name.is_some() {
        complain("hostName", only("\"tap\" or \"bridge\""));
    }
    let of_tap = [
        ("hostAddress", interface.host_address.is_some()),
        ("localAddress", interface.local_address.is_some()),
        ("outbound", interface.outbound),
    ];
    for (key, is_given) in of_tap {
        if is_given && kind != InterfaceKind::Tap {
            complain(key, only("\"tap\""));
        }
    }
    if kind == InterfaceKind::User {
        let own = "is passt's to say in type \"user\"";
        if !interface.addresses.is_empty() {
            complain("addresses", own.into());
        }
        if interface.gateway.is_some() {
            complain("gateway", own.into());
        }
    }
}

/// Keys of type "network", and those that it has another use for.
fn keys_of_networks(interface: &Interface, complain: Complain<'_>) {
    if interface.kind != InterfaceKind::Network {
        let only = || "is of no use unless type is \"network\"".to_owned();
        if interface.network.is_some() {
            complain("network", only());
        }
        if !interface.aliases.is_empty() {
            complain("aliases", only());
        }
        return;
    }
    if interface.network.is_none() {
        complain("type", "\"network\" needs `network`, its name".into());
    }
    if interface.gateway.is_some() {
        let none = "is of no use in type \"network\", which leads nowhere else";
        complain("gateway", none.into());
    }
    match interface.addresses[..] {
        [] => {}
        [subnet] if subnet.address.is_ipv4() => {}
        _ => complain(
            "addresses",
            "must be one address of IPv4 in type \"network\"".into(),
        ),
    }
}

fn networks_of_two(interface: &Interface, complain: Complain<'_>) {
    match (interface.host_address, interface.local_address) {
        (None, None) if interface.outbound && interface.kind == InterfaceKind::Tap => {
            complain("outbound", "needs hostAddress and localAddress".into());
        }
        (Some(_), None) => complain("hostAddress", "needs localAddress, the machine's".into()),
        (None, Some(_)) => complain("localAddress", "needs hostAddress, the host's".into()),
        (Some(host), Some(local)) if host == local => {
            complain(
                "localAddress",
                format!("must be another than hostAddress, is {local}"),
            );
        }
        (Some(host), Some(local)) if host.is_ipv4() != local.is_ipv4() => {
            complain(
                "localAddress",
                format!("must be of hostAddress' family, is {local}"),
            );
        }
        _ => {}
    }
}

fn gateway(interface: &Interface, complain: Complain<'_>) {
    let Some(gateway) = interface.gateway else {
        return;
    };
    if interface.local_address.is_some() {
        complain("gateway", "is hostAddress where that is given".into());
    } else if !matches!(interface.kind, InterfaceKind::User | InterfaceKind::Network)
        && !interface
            .addresses
            .iter()
            .any(|subnet| subnet.address.is_ipv4() == gateway.is_ipv4())
    {
        complain(
            "gateway",
            format!("needs an address of its family in `addresses`, is {gateway}"),
        );
    }
}

/// What two interfaces cannot both have.
fn twins(interfaces: &[Interface], nth: usize, complain: Complain<'_>) {
    let interface = &interfaces[nth];
    for (first, other) in interfaces[..nth].iter().enumerate() {
        if other.name(first) == interface.name(nth) {
            let name = quoted(&interface.name(nth));
            complain(
                "name",
                format!("{name} is the name of interfaces[{first}] too"),
            );
        }
        if let Some(name) = &interface.host_name
            && other.host_name.as_ref() == Some(name)
        {
            let name = quoted(name);
            complain(
                "hostName",
                format!("{name} is the tap of interfaces[{first}] too"),
            );
        }
        if let Some(mac) = interface.mac
            && other.mac == Some(mac)
        {
            complain(
                "mac",
                format!("{mac} is the address of interfaces[{first}] too"),
            );
        }
        if let Some(network) = &interface.network
            && other.network.as_ref() == Some(network)
        {
            let network = quoted(network);
            complain(
                "network",
                format!("{network} is the network of interfaces[{first}] too"),
            );
        }
        if (interface.kind, other.kind) == (InterfaceKind::User, InterfaceKind::User) {
            complain(
                "type",
                format!(
                    "interfaces[{first}] is of type \"user\" already, and one passt serves a machine"
                ),
            );
        }
    }
}

/// Each socket is there once.
fn sockets(app: &App, complaints: &mut Vec<Complaint>) {
    let mut takers = BTreeMap::new();
    for (nth, port) in app.ports.iter().enumerate() {
        let socket = match &port.host {
            HostEnd::Ports(_) => continue,
            HostEnd::Socket(path) => path.display().to_string(),
            handed @ HostEnd::Handed(_) => handed.to_string(),
        };
        let taker = *takers.entry(socket.clone()).or_insert(nth);
        if taker != nth {
            complaints.push(Complaint {
                place: Place::root().key("ports").index(nth).key("host"),
                message: format!("{socket} is the socket of ports[{taker}] already"),
            });
        }
    }
}

fn ports(app: &App, interfaces: &[Interface], complaints: &mut Vec<Complaint>) {
    let has_user = interfaces
        .iter()
        .any(|interface| interface.kind == InterfaceKind::User);
    let needs_user = app.ports.iter().any(|port| port.host.ports().is_some());
    if !has_user && needs_user {
        complaints.push(Complaint {
            place: Place::root().key("ports"),
            message: "need an interface of type \"user\"".into(),
        });
    }
    // By which of `ports` a port of the host is taken. passt has each but once, for all addresses.
    let mut takers: BTreeMap<(Protocol, u16), usize> = BTreeMap::new();
    let mut left = MAX_PORTS;
    for (nth, port) in app.ports.iter().enumerate() {
        let Some(host) = port.host.ports().filter(|host| host.first != 0) else {
            continue;
        };
        for number in host.first..=host.last {
            let Some(less) = left.checked_sub(1) else {
                return;
            };
            left = less;
            let taker = *takers.entry((port.protocol, number)).or_insert(nth);
            if taker != nth {
                let protocol = port.protocol;
                complaints.push(Complaint {
                    place: Place::root().key("ports").index(nth).key("host"),
                    message: format!("{number}/{protocol} is a port of ports[{taker}] already"),
                });
                break;
            }
        }
    }
}
