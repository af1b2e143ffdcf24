//! A container's network, handed to its machine.
//!
//! ```text
//! engine ── veth ── eth0 ── mvm-b0 (a bridge) ── mvm-t0 (a tap) ── the machine's eth0
//!                   └──── in the container's network namespace ────┘
//! ```
//!
//! The machine has the addresses and the hardware address that the engine gave the container, so
//! that published ports, names and policies hold, for any protocol. It is done by who starts the
//! container, which may: the tap is the container's user's, and the monitor needs no privilege to use
//! it. And it is done at `start`, since some engines complete the network after `create`.
//!
//! The interface keeps its addresses, which nobody answers for: what comes in goes through the bridge,
//! and the bridge does no ARP. So they are there for a machine that is started again in the same
//! namespace. The hardware address is given away, as a bridge keeps what is for its ports' own.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vmm::app::{Interface, InterfaceKind, MAX_INTERFACES, Mac, Subnet};

/// A link as ip(8) tells of it.
#[derive(Clone, Debug, Deserialize)]
struct Link {
    ifname: String,
    #[serde(rename = "link_type")]
    kind: String,
    #[serde(default)]
    flags: Vec<String>,
    mtu: u32,
    /// Its hardware address.
    #[serde(default)]
    address: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

/// An address of a link.
#[derive(Clone, Debug, Deserialize)]
struct Address {
    local: IpAddr,
    prefixlen: u8,
    scope: String,
}

/// A default route.
#[derive(Clone, Debug, Deserialize)]
struct Route {
    gateway: Option<IpAddr>,
    dev: String,
}

/// What is to be done, and what the machine has then.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Commands of ip(8), one a line.
    commands: String,
    interfaces: Vec<Interface>,
}

/// Has the network of the container whose process is `pid` lead to a machine of the user `owner`.
/// Returns the machine's network cards.
///
/// # Errors
/// It cannot be: it is the host's, or another machine has it, or the kernel refuses.
pub fn connect(pid: u32, owner: u32) -> Result<Vec<Interface>> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let own = fs::metadata("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?;
    let theirs = namespace.metadata()?;
    ensure!(
        (own.dev(), own.ino()) != (theirs.dev(), theirs.ino()),
        "the container's network is the host's, which a machine cannot have"
    );
    let work = || -> Result<Vec<Interface>> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), kind)
            .context("cannot enter the container's network")?;
        let links: Vec<Link> = ask(&["address"])?;
        let routes: [Vec<Route>; 2] = [
            ask(&["route", "show", "default"])?,
            ask(&["-6", "route", "show", "default"])?,
        ];
        let plan = plan(&links, &routes.concat(), owner)?;
        change(&plan.commands)?;
        Ok(plan.interfaces)
    };
    // Only this thread enters, and what it starts.
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.map_err(|_| anyhow!("a thread has panicked"))?
}

fn plan(links: &[Link], routes: &[Route], owner: u32) -> Result<Plan> {
    let given = links.iter().filter(|link| link.is_given());
    let mut plan = Plan {
        commands: String::new(),
        interfaces: Vec::new(),
    };
    for (nth, link) in given.enumerate().take(MAX_INTERFACES) {
        let (tap, bridge) = (format!("mvm-t{nth}"), format!("mvm-b{nth}"));
        let (name, mtu) = (&link.ifname, link.mtu);
        let mac: Mac = link.address.parse().map_err(anyhow::Error::msg)?;
        let other = other(mac);
        let mut add = |command: &str| {
            plan.commands.push_str(command);
            plan.commands.push('\n');
        };
        let known = |name: &str| links.iter().find(|link| link.ifname == name);
        let is_again = known(&bridge).is_some();
        if let Some(tap) = known(&tap) {
            ensure!(
                !tap.flags.iter().any(|flag| flag == "LOWER_UP"),
                "another machine has this network: a network namespace can be that of one machine"
            );
            add(&format!("link del dev {}", tap.ifname));
        }
        if !is_again {
            add(&format!(
                "link add name {bridge} type bridge forward_delay 0 stp_state 0"
            ));
            add(&format!("link set dev {bridge} arp off up"));
            add(&format!("link set dev {name} address {other}"));
            add(&format!("link set dev {name} master {bridge}"));
        }
        add(&format!(
            "tuntap add dev {tap} mode tap user {owner} vnet_hdr"
        ));
        add(&format!("link set dev {tap} mtu {mtu} master {bridge} up"));
        let mut gateways = routes.iter().filter(|route| route.dev == *name);
        plan.interfaces.push(Interface {
            kind: InterfaceKind::Tap,
            name: Some(name.clone()),
            host_name: Some(tap),
            mac: Some(if is_again { other } else { mac }),
            mtu: Some(mtu),
            addresses: link.addresses().collect(),
            gateway: gateways.find_map(|route| route.gateway),
            ..Interface::default()
        });
    }
    Ok(plan)
}

impl Link {
    /// Whether the engine has made it, and it leads somewhere.
    fn is_given(&self) -> bool {
        let is_ours = self.ifname.starts_with("mvm-");
        self.kind == "ether" && !is_ours && self.flags.iter().any(|flag| flag == "UP")
    }

    /// Its addresses that others know.
    fn addresses(&self) -> impl Iterator<Item = Subnet> {
        let known = self.addr_info.iter().filter(|one| one.scope == "global");
        known.map(|one| Subnet {
            address: one.local,
            prefix: one.prefixlen,
        })
    }
}

/// The hardware address of an interface whose own the machine has, and the other way round.
fn other(mac: Mac) -> Mac {
    let mut bytes = mac.0;
    // Neither the bit of groups nor that of who has given it.
    bytes[0] ^= 4;
    Mac(bytes)
}

/// What ip(8) tells.
fn ask<T: DeserializeOwned>(words: &[&str]) -> Result<T> {
    let output = ip().arg("-json").args(words).stdin(Stdio::null()).output();
    let output = output.context(NO_IP)?;
    ensure!(output.status.success(), "{}", failure(&output.stderr));
    // Of no routes it says nothing at all.
    let answer = output.stdout.trim_ascii();
    let answer = if answer.is_empty() { b"[]" } else { answer };
    serde_json::from_slice(answer).with_context(|| format!("ip {}", words.join(" ")))
}

/// Has ip(8) carry commands out.
fn change(commands: &str) -> Result<()> {
    let mut child = ip()
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(NO_IP)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended says why.
        let _ = stdin.write_all(commands.as_bytes());
    }
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    if !output.status.success() {
        bail!("{}", failure(&output.stderr));
    }
    Ok(())
}

/// Said where it is missing.
const NO_IP: &str = "cannot start `ip`, of package iproute2";

fn ip() -> Command {
    Command::new("ip")
}

fn failure(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let first = said.lines().next().unwrap_or("it does not say why");
    format!("cannot lead the container's network to a machine: {first}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn link(name: &str, flags: &[&str], mac: &str) -> serde_json::Value {
        json!({
            "ifindex": 2, "ifname": name, "flags": flags, "mtu": 1500, "link_type": "ether",
            "address": mac, "addr_info": [
                { "family": "inet", "local": "10.88.0.2", "prefixlen": 16, "scope": "global" },
                { "family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link" },
            ],
        })
    }

    fn loopback() -> serde_json::Value {
        json!({ "ifname": "lo", "flags": ["LOOPBACK", "UP"], "mtu": 65536, "link_type": "loopback",
                "address": "00:00:00:00:00:00", "addr_info": [] })
    }

    fn planned(links: serde_json::Value) -> Result<Plan> {
        let links: Vec<Link> = serde_json::from_value(links).unwrap();
        let routes = json!([{ "dst": "default", "gateway": "10.88.0.1", "dev": "eth0" },
                            { "dst": "default", "dev": "eth1" }]);
        let routes: Vec<Route> = serde_json::from_value(routes).unwrap();
        plan(&links, &routes, 1000)
    }

    #[test]
    fn the_machine_gets_what_the_engine_gave_the_container() {
        let plan = planned(json!([
            loopback(),
            link("eth0", &["UP"], "de:6c:95:e2:d0:60")
        ]))
        .unwrap();
        assert_eq!(
            plan.commands,
            "link add name mvm-b0 type bridge forward_delay 0 stp_state 0\n\
             link set dev mvm-b0 arp off up\n\
             link set dev eth0 address da:6c:95:e2:d0:60\n\
             link set dev eth0 master mvm-b0\n\
             tuntap add dev mvm-t0 mode tap user 1000 vnet_hdr\n\
             link set dev mvm-t0 mtu 1500 master mvm-b0 up\n"
        );
        let [card] = &plan.interfaces[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(card.addresses, ["10.88.0.2/16".parse().unwrap()]);
        assert_eq!(card.gateway, Some("10.88.0.1".parse().unwrap()));
        assert_eq!(card.mac, Some("de:6c:95:e2:d0:60".parse().unwrap()));
        assert_eq!(card.name.as_deref(), Some("eth0"));
    }

    #[test]
    fn a_second_start_finds_what_the_first_has_made() {
        let links = |tap: &[&str]| {
            json!([
                loopback(),
                link("eth0", &["UP"], "da:6c:95:e2:d0:60"),
                link("mvm-b0", &["UP"], "da:6c:95:e2:d0:60"),
                link("mvm-t0", tap, "aa:aa:aa:aa:aa:aa"),
            ])
        };
        let plan = planned(links(&["NO-CARRIER", "UP"])).unwrap();
        assert_eq!(
            plan.commands,
            "link del dev mvm-t0\n\
             tuntap add dev mvm-t0 mode tap user 1000 vnet_hdr\n\
             link set dev mvm-t0 mtu 1500 master mvm-b0 up\n"
        );
        assert_eq!(
            plan.interfaces[0].mac,
            Some("de:6c:95:e2:d0:60".parse().unwrap())
        );
        let error = planned(links(&["UP", "LOWER_UP"])).unwrap_err().to_string();
        assert!(
            error.starts_with("another machine has this network: "),
            "{error}"
        );
    }

    #[test]
    fn a_container_without_a_network_is_a_machine_without() {
        let plan = planned(json!([loopback(), link("eth0", &[], "de:6c:95:e2:d0:60")])).unwrap();
        assert_eq!((&*plan.commands, plan.interfaces.len()), ("", 0));
    }

    #[test]
    fn the_hosts_own_network_is_refused() {
        let error = connect(std::process::id(), 0).unwrap_err().to_string();
        assert_eq!(
            error,
            "the container's network is the host's, which a machine cannot have"
        );
    }
}
