//! The emulated host's network: QEMU's, which makes its connections the host's own.
//!
//! The one thing to know: QEMU lets whatever is inside reach the host's loopback through the
//! gateway's address. So nothing is sent to that address. What comes from the host comes another way
//! (`ports.rs`).

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use guest::protocol::Link;

/// Its address inside.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 15));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 2));
/// Not the network that machines have by passt, or they could not reach this one.
const NETWORK: &str = "10.0.3.0/24";

/// Name of the network in QEMU.
const NETDEV: &str = "net0";

const MAC: [u8; 6] = [2, 0x6d, 0x76, 0x6d, 0, 1];

/// Whether this process is in that network; one inside may be in a namespace of its own.
pub fn is_here() -> bool {
    UdpSocket::bind((ADDRESS, 0)).is_ok()
}

/// QEMU's arguments.
pub fn arguments() -> [String; 4] {
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    [
        "-netdev".into(),
        format!("user,id={NETDEV},net={NETWORK},dhcpstart={ADDRESS},ipv6=off"),
        "-device".into(),
        // No program to boot from the network with.
        format!("virtio-net-pci,netdev={NETDEV},mac={mac},romfile="),
    ]
}

/// What the emulated host's init sets up.
pub fn links() -> Vec<Link> {
    vec![Link {
        mac: MAC,
        name: "eth0".into(),
        mtu: 1500,
        addresses: vec![(ADDRESS, 24)],
        gateways: vec![GATEWAY],
        closed: Some(GATEWAY),
    }]
}
