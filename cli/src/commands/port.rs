//! `mvm port`, `mvm ip`: where a running machine is reached.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use vmm::app::{HostEnd, Port, Protocol};

use crate::control::client;
use crate::control::message::Info;
use crate::machines;
use crate::output::print;

/// List the ports of the host that lead to a machine
///
/// With a port of the machine, prints only where that is reached.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
    /// A port of the machine, such as 80 or 53/udp
    #[arg(value_name = "PORT[/PROTOCOL]", value_parser = guest_port)]
    port: Option<(u16, Protocol)>,
}

/// Print the addresses that a machine has
///
/// One a line, in the order of its interfaces. Those of an interface of type "user" are the machine's
/// alone: `mvm port` tells where the host reaches it.
#[derive(Debug, clap::Args)]
pub struct IpArgs {
    /// The machine
    name: String,
}

/// Runs `mvm port`.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (name, info) = info(&args.name)?;
    let ways = info.ports.iter().flat_map(ways);
    let text = match args.port {
        None => ways.fold(String::new(), |mut text, way| {
            let Way {
                at,
                guest,
                protocol,
            } = way;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{guest}/{protocol} -> {at}");
            text
        }),
        Some((guest, protocol)) => {
            let ways = ways.filter(|way| (way.guest, way.protocol) == (guest, protocol));
            let lines: Vec<_> = ways.map(|way| format!("{}\n", way.at)).collect();
            ensure!(
                !lines.is_empty(),
                "no port of the host leads to {guest}/{protocol} of {name}"
            );
            lines.concat()
        }
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `mvm ip`.
pub fn ip(args: &IpArgs) -> Result<ExitCode> {
    let (name, info) = info(&args.name)?;
    ensure!(!info.addresses.is_empty(), "{name} has no address");
    let lines = info.addresses.iter().map(|address| format!("{address}\n"));
    print(lines.collect::<String>().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn info(name: &str) -> Result<(String, Info)> {
    let machine = machines::find(name)?;
    machine.ensure_running()?;
    let info = client::info(&machine.name)?;
    Ok((machine.name, info))
}

/// One port of the host that leads to one of a machine.
struct Way {
    /// An address, a socket's path behind "unix:", or a name of systemd's behind "systemd:".
    at: String,
    guest: u16,
    protocol: Protocol,
}

fn ways(port: &Port) -> impl Iterator<Item = Way> + use<> {
    let (address, protocol) = (port.address, port.protocol);
    let ends = match &port.host {
        HostEnd::Ports(host) => (host.first..=host.last)
            .map(|host| SocketAddr::from((address, host)).to_string())
            .collect(),
        socket @ (HostEnd::Socket(_) | HostEnd::Handed(_)) => vec![socket.to_string()],
    };
    let guests = port.guest.first..;
    ends.into_iter().zip(guests).map(move |(at, guest)| Way {
        at,
        guest,
        protocol,
    })
}

/// The ports in a cell of a list.
pub fn summary(ports: &[Port]) -> String {
    let one = |port: &Port| {
        let host = match &port.host {
            HostEnd::Ports(host) => {
                let first = SocketAddr::from((port.address, host.first));
                match host.last {
                    last if last == host.first => first.to_string(),
                    last => format!("{first}-{last}"),
                }
            }
            socket @ (HostEnd::Socket(_) | HostEnd::Handed(_)) => socket.to_string(),
        };
        format!("{host}->{}/{}", port.guest, port.protocol)
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn guest_port(text: &str) -> Result<(u16, Protocol), String> {
    let wrong = || "must be such as 80 or 53/udp".to_owned();
    let (number, protocol) = match text.split_once('/').unwrap_or((text, "tcp")) {
        (number, "tcp") => (number, Protocol::Tcp),
        (number, "udp") => (number, Protocol::Udp),
        _ => return Err(wrong()),
    };
    Ok((number.parse().map_err(|_| wrong())?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_the_machine_has_a_protocol() {
        assert_eq!(guest_port("80"), Ok((80, Protocol::Tcp)));
        assert_eq!(guest_port("80/tcp"), Ok((80, Protocol::Tcp)));
        assert_eq!(guest_port("53/udp"), Ok((53, Protocol::Udp)));
        for text in ["", "http", "65536", "80/sctp", "80/"] {
            assert!(guest_port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_port_of_a_row_leads_to_its_own() {
        let port = "[::1]:5000-5002:6000-6002".parse().unwrap();
        let ways: Vec<_> = ways(&port).map(|way| (way.at, way.guest)).collect();
        assert_eq!(ways.len(), 3);
        assert_eq!(ways[2], ("[::1]:5002".into(), 6002));
    }

    #[test]
    fn a_cell_has_all_ports() {
        let ports = [
            "8080:80",
            "0.0.0.0:5000-5002:6000-6002/udp",
            "unix:/run/web.sock:80",
        ];
        let ports = ports.map(|text| text.parse().unwrap());
        assert_eq!(
            summary(&ports),
            "127.0.0.1:8080->80/tcp, 0.0.0.0:5000-5002->6000-6002/udp, unix:/run/web.sock->80/tcp"
        );
        let at: Vec<_> = ways(&ports[2]).map(|way| way.at).collect();
        assert_eq!(at, ["unix:/run/web.sock"]);
    }
}
