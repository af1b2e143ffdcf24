//! Taps: interfaces of the host's whose other end is the machine's card (ip-link(8), nft(8)).
//!
//! All that is made here goes with this process, however that ends: the kernel removes a tap with
//! its descriptor, and with it its addresses and its place in a bridge; and the packet filter's
//! table with the socket that owns it. A tap that was there before is used as it is.

mod filter;

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use devices::virtio::net as device;

use super::Link;
use crate::app::{Interface, InterfaceKind, Subnet};
pub use filter::Filter;

/// What a tap is called where the file says nothing; the kernel puts a number for `%d`.
const NAME: &str = "mvm%d";

/// The host's interfaces.
const INTERFACES: &str = "/sys/class/net";

/// A tap, and what is kept as long as it.
pub struct Tap {
    pub device: device::Tap,
    pub filter: Option<Filter>,
}

impl Tap {
    /// Attaches to the tap of `interface`, or makes it, and completes `link`.
    ///
    /// # Errors
    /// It cannot be had, or not be set up.
    pub fn open(interface: &Interface, link: &mut Link) -> anyhow::Result<Self> {
        let wanted = interface.host_name.as_deref().unwrap_or(NAME);
        let is_there = exists(wanted);
        if let Some(bridge) = &interface.bridge {
            let is_bridge = Path::new(INTERFACES).join(bridge).join("bridge").exists();
            ensure!(is_bridge, "the host has no bridge {bridge}");
        }
        let is_set_up = interface.kind == InterfaceKind::Bridge || interface.host_address.is_some();
        ensure!(
            !(is_there && is_set_up),
            "{wanted} is there already, and a tap that is is used as it is: without hostAddress, and with type \"tap\""
        );
        let device = device::Tap::open(wanted)?;
        let mut tap = Self {
            device,
            filter: None,
        };
        if is_there {
            return Ok(tap);
        }
        let name = tap.device.name().to_owned();
        let pair = interface.host_address.zip(interface.local_address);
        ip(&commands(&name, interface, pair))?;
        if let Some((host, local)) = pair {
            link.addresses.push(alone(local));
            link.gateways.push(host);
            if interface.outbound {
                ensure_forwarding(local)?;
                tap.filter = Some(Filter::open(&name, local)?);
            }
        }
        Ok(tap)
    }
}

fn exists(name: &str) -> bool {
    Path::new(INTERFACES).join(name).exists()
}

/// An address in a network of its own.
fn alone(address: IpAddr) -> Subnet {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Subnet { address, prefix }
}

/// What ip(8) does to a tap that was just made, one command a line.
fn commands(name: &str, interface: &Interface, pair: Option<(IpAddr, IpAddr)>) -> String {
    let mtu = interface.mtu();
    let master = match &interface.bridge {
        Some(bridge) => format!(" master {bridge}"),
        None => String::new(),
    };
    let link = format!("link set dev {name} mtu {mtu}{master} up\n");
    let Some((host, local)) = pair else {
        return link;
    };
    // A network of two needs not be asked whether somebody has the address.
    let at_once = if host.is_ipv6() { " nodad" } else { "" };
    format!("{link}address add {host} peer {local} dev {name}{at_once}\n")
}

fn ip(commands: &str) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ip`, of package iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended says why.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let first = words.lines().next().unwrap_or("it does not say why");
    bail!("cannot set up a tap: {first}")
}

/// Whether the host passes packets on is its owner's to say, for all of its interfaces.
fn ensure_forwarding(local: IpAddr) -> anyhow::Result<()> {
    let key = if local.is_ipv4() {
        "net.ipv4.ip_forward"
    } else {
        "net.ipv6.conf.all.forwarding"
    };
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let value = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ensure!(
        value.trim() != "0",
        "outbound: this host passes no packets on; `sysctl {key}=1` changes that"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_gets_what_its_interface_says() {
        let bridge = Interface {
            kind: InterfaceKind::Bridge,
            bridge: Some("br0".into()),
            mtu: Some(9000),
            ..Interface::default()
        };
        assert_eq!(
            commands("mvm0", &bridge, None),
            "link set dev mvm0 mtu 9000 master br0 up\n"
        );
        let tap = Interface {
            kind: InterfaceKind::Tap,
            ..Interface::default()
        };
        let pair = |host: &str, local: &str| Some((host.parse().unwrap(), local.parse().unwrap()));
        assert_eq!(
            commands("mvm0", &tap, pair("10.0.0.1", "10.0.0.2")),
            "link set dev mvm0 mtu 1500 up\naddress add 10.0.0.1 peer 10.0.0.2 dev mvm0\n"
        );
        assert!(commands("mvm0", &tap, pair("fd00::1", "fd00::2")).ends_with("dev mvm0 nodad\n"));
    }

    #[test]
    fn a_bridge_that_is_not_there_is_told() {
        let interface = Interface {
            kind: InterfaceKind::Bridge,
            bridge: Some("no-such-bridge".into()),
            ..Interface::default()
        };
        let mut link = Link {
            name: "eth0".into(),
            mac: crate::app::Mac([2; 6]),
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
        };
        let error = Tap::open(&interface, &mut link).err().unwrap();
        assert_eq!(error.to_string(), "the host has no bridge no-such-bridge");
    }
}
