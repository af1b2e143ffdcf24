//! Network interfaces: loopback, and those that the host tells of.
//!
//! The one thing to know: a card is found by its hardware address, since the kernel's names follow
//! the order in which drivers find them. No DHCP: the host knows all there is to set.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use super::netlink::{Netlink, Request};
use crate::protocol::Link;

/// The loopback interface is the first of each network namespace (`LOOPBACK_IFINDEX`). The kernel
/// gives it 127.0.0.1 and `::1` by itself once it is up (`inetdev_event`).
const LOOPBACK: u32 = 1;

/// The interfaces of this network namespace.
const INTERFACES: &str = "/sys/class/net";

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Usable at once, without asking first whether somebody else has it.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
/// Set by the administrator at start.
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTM_NEWRULE: u16 = 32;
const FRA_DST: u16 = 1;
const FRA_PRIORITY: u16 = 6;
const FR_ACT_BLACKHOLE: u8 = 6;
/// Rules are asked in their order; this one before the main table's (32766).
const BLACKHOLE: u32 = 100;
/// The gateway is on the link, whatever its address.
const RTNH_F_ONLINK: u32 = 4;
/// `AF_INET`, `AF_INET6`.
const INET: u8 = 2;
const INET6: u8 = 10;

/// Sets the loopback interface up.
pub(super) fn raise_loopback() -> Result<()> {
    Netlink::open()?.request(&link(LOOPBACK, IFF_UP))
}

/// Names the interfaces, sets them up, and gives them addresses and routes.
pub(super) fn set_up(links: &[Link]) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let netlink = Netlink::open()?;
    let mut indices = Vec::new();
    for wanted in links {
        let (index, name) = find(wanted)?;
        indices.push(index);
        if name != wanted.name {
            // A name of another card's may be free only when that has its own.
            rename(&netlink, index, &format!("card{index}"))?;
        }
    }
    for (index, wanted) in indices.into_iter().zip(links) {
        rename(&netlink, index, &wanted.name)?;
        configure(&netlink, index, wanted)
            .with_context(|| format!("cannot set up the network interface {}", wanted.name))?;
    }
    Ok(())
}

/// The index and the name of the interface with that hardware address.
fn find(wanted: &Link) -> Result<(u32, String)> {
    let mac = wanted.mac.map(|byte| format!("{byte:02x}")).join(":");
    for entry in fs::read_dir(INTERFACES).with_context(|| format!("cannot read {INTERFACES}"))? {
        let entry = entry?;
        let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("address").trim() == mac {
            let index = read("ifindex")
                .trim()
                .parse()
                .context("an interface has no index")?;
            return Ok((index, entry.file_name().to_string_lossy().into_owned()));
        }
    }
    bail!(
        "the kernel has no driver for the network card {} ({mac})",
        wanted.name
    )
}

fn rename(netlink: &Netlink, index: u32, name: &str) -> Result<()> {
    let terminated = [name.as_bytes(), &[0]].concat();
    let renamed = netlink.request(&link(index, 0).with(IFLA_IFNAME, &terminated));
    renamed.with_context(|| format!("cannot name a network interface {name}"))
}

fn configure(netlink: &Netlink, index: u32, wanted: &Link) -> Result<()> {
    netlink.request(&link(index, IFF_UP).with(IFLA_MTU, &wanted.mtu.to_ne_bytes()))?;
    for (address, prefix) in &wanted.addresses {
        let added = netlink.request(&new_address(index, *address, *prefix));
        added.with_context(|| format!("cannot add the address {address}/{prefix}"))?;
    }
    for gateway in &wanted.gateways {
        let added = netlink.request(&route_by(index, *gateway));
        added.with_context(|| format!("cannot add the gateway {gateway}"))?;
    }
    if let Some(address) = wanted.closed {
        let added = netlink.request(&blackhole(address));
        added.with_context(|| format!("cannot close the way to {address}"))?;
    }
    Ok(())
}

/// `struct ifinfomsg`: sets `flags`, and leaves the others as they are.
fn link(index: u32, flags: u32) -> Request {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    // Which flags to change.
    body.extend(flags.to_ne_bytes());
    Request::new(RTM_NEWLINK, &body)
}

/// `struct ifaddrmsg`.
fn new_address(index: u32, address: IpAddr, prefix: u8) -> Request {
    let (family, bytes) = octets(address);
    let mut body = vec![family, prefix, IFA_F_NODAD, 0];
    body.extend(index.to_ne_bytes());
    Request::new(RTM_NEWADDR, &body)
        .with(IFA_LOCAL, &bytes)
        .with(IFA_ADDRESS, &bytes)
}

/// The route of all packets that have no other (`struct rtmsg`).
fn route_by(index: u32, gateway: IpAddr) -> Request {
    let (family, bytes) = octets(gateway);
    // Neither side's prefix; type of service; and behind the protocol, the scope: the world.
    let mut body = vec![family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST];
    body.extend(RTNH_F_ONLINK.to_ne_bytes());
    Request::new(RTM_NEWROUTE, &body)
        .with(RTA_GATEWAY, &bytes)
        .with(RTA_OIF, &index.to_ne_bytes())
}

/// No packet for `address` goes (`struct fib_rule_hdr`).
fn blackhole(address: IpAddr) -> Request {
    let (family, bytes) = octets(address);
    let bits = 8 * bytes.len() as u8;
    // Behind the prefix: of the source, type of service. Then the table, and two bytes of nothing.
    let body = [
        family,
        bits,
        0,
        0,
        RT_TABLE_MAIN,
        0,
        0,
        FR_ACT_BLACKHOLE,
        0,
        0,
        0,
        0,
    ];
    Request::new(RTM_NEWRULE, &body)
        .with(FRA_DST, &bytes)
        .with(FRA_PRIORITY, &BLACKHOLE.to_ne_bytes())
}

fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    }
}
