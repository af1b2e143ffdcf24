//! Section `interfaces`: the machine's network cards, and what is at the other end of each.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::check::{ALIAS_PATTERN, MAX_HOSTNAME_SIZE, SHARED_NAME_PATTERN};
use super::{Mac, Rate, Subnet, address, count};

/// Interfaces of one machine: each is a device with an interrupt of its own.
pub const MAX_INTERFACES: usize = 8;

/// Bytes of an interface's name (`IFNAMSIZ`, less its NUL).
pub const MAX_INTERFACE_NAME_SIZE: usize = 15;

/// An interface's name, here and in the machine: a word without "/" and ":".
pub const INTERFACE_NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,15}$";

/// The smallest packet that each IPv4 link carries whole (RFC 791).
pub const MIN_MTU: u32 = 68;

/// The largest packet of IP.
pub const MAX_MTU: u32 = 65_535;

/// A network card of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// What is at its other end.
    #[serde(default, rename = "type")]
    pub kind: InterfaceKind,
    /// Its name in the machine. By default "eth" and the interface's number, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = INTERFACE_NAME_PATTERN))]
    pub name: Option<String>,
    /// The tap on the host; one that is not there is made, and removed when the machine ends. By
    /// default the kernel finds a free name that begins with "mvm".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = INTERFACE_NAME_PATTERN))]
    pub host_name: Option<String>,
    /// Its hardware address. By default made from the machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mac")]
    pub mac: Option<Mac>,
    /// The largest packet, in bytes. By default 65520 for types "user" and "network", else 1500.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "mtu"
    )]
    #[schemars(with = "u32", range(min = MIN_MTU, max = MAX_MTU))]
    pub mtu: Option<u32>,
    /// The host's bridge that the tap of type "bridge" is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = INTERFACE_NAME_PATTERN))]
    pub bridge: Option<String>,
    /// The network of type "network": machines of this user that name the same one reach each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = SHARED_NAME_PATTERN))]
    pub network: Option<String>,
    /// What the machine is called there, besides its name and its host name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ALIASES), inner(regex(pattern = ALIAS_PATTERN), length(max = MAX_HOSTNAME_SIZE)))]
    pub aliases: Vec<String>,
    /// The machine's addresses on it, each with its prefix. Types "user" and "network" have their own
    /// by default, and the latter one at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ADDRESSES))]
    pub addresses: Vec<Subnet>,
    /// Where packets for all other networks go.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "address::read_some"
    )]
    #[schemars(schema_with = "address::schema")]
    pub gateway: Option<IpAddr>,
    /// The host's address on the tap of type "tap", a network of two with `localAddress`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "address::read_some"
    )]
    #[schemars(schema_with = "address::schema")]
    pub host_address: Option<IpAddr>,
    /// The machine's address in the network of two.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "address::read_some"
    )]
    #[schemars(schema_with = "address::schema")]
    pub local_address: Option<IpAddr>,
    /// Whether the network of two reaches beyond the host, by the host's address (NAT).
    #[serde(default)]
    pub outbound: bool,
    /// How fast it may be used, both directions together: each packet is a request, and one that is
    /// still to be cut into several is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rate")]
    pub rate_limit: Option<Rate>,
}

/// Addresses of one interface.
pub const MAX_ADDRESSES: usize = 16;

/// Names of one machine in one network, besides its own.
pub const MAX_ALIASES: usize = 16;

/// What is at the other end of a network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceKind {
    /// passt, which makes the machine's connections its own: no privilege, and nothing of the
    /// host's loopback.
    #[default]
    User,
    /// A tap interface of the host's.
    Tap,
    /// A tap that is a port of one of the host's bridges.
    Bridge,
    /// A network of machines of one user, who needs no privilege for it. It leads nowhere else.
    Network,
}

impl Interface {
    /// Its name in the machine, where it is the interface with number `nth`.
    pub fn name(&self, nth: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("eth{nth}"))
    }

    /// The largest packet, in bytes.
    pub fn mtu(&self) -> u16 {
        /// What passt allows: a large one stands in for the offloads that a stream of frames lacks.
        const STREAM_MTU: u16 = 65_520;
        let given = self.mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
        given.unwrap_or(match self.kind {
            InterfaceKind::User | InterfaceKind::Network => STREAM_MTU,
            InterfaceKind::Tap | InterfaceKind::Bridge => 1500,
        })
    }
}

fn mtu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let allowed = format_args!("a whole number from {MIN_MTU} to {MAX_MTU}");
    count::number(deserializer, allowed).map(Some)
}
