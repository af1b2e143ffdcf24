//! passt, which makes the guest's connections the host's own (passt(1)).
//!
//! It has one end of a socket pair and ends when the other closes, however this process ends. Where
//! ports lead to the machine it starts with that, and goes to the background when it listens, which is
//! how it says so; else not before the machine speaks to somebody. Written against Debian 12's version
//! (2023-03-09), whose way through the gateway to the host's loopback is closed here.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

use super::{patience, routes};
use crate::app::{Port, PortRange, Protocol, Subnet};
use crate::inherited;

/// The program, and the Debian package that has it.
const PASST: &str = "passt";

/// The guest's network, seen by nobody else: the same as QEMU's, which is known by now.
const IPV4: Subnet = Subnet {
    address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
    prefix: 24,
};
const IPV4_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
/// Of the block that is for private use (RFC 4193).
const IPV6: Subnet = Subnet {
    address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x6d76, 0x6d, 0, 0, 0, 0, 0xf)),
    prefix: 64,
};
const IPV6_GATEWAY: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// What it says of itself at each start, and of a missing system log.
const NOISE: [&str; 2] = ["Failed to send", "Don't run as root"];

/// Bytes of its complaints that are shown.
const WORDS_MAX: u64 = 4096;

/// passt, or who starts it later, on its way to the background.
pub struct Passt(Child);

/// The guest's addresses and gateways.
pub fn addresses(routes: routes::Default) -> (Vec<Subnet>, Vec<IpAddr>) {
    families(routes).into_iter().unzip()
}

fn families(routes: routes::Default) -> Vec<(Subnet, IpAddr)> {
    let ipv4 = routes.ipv4.then_some((IPV4, IPV4_GATEWAY));
    let ipv6 = routes.ipv6.then_some((IPV6, IPV6_GATEWAY));
    ipv4.into_iter().chain(ipv6).collect()
}

impl Passt {
    /// Starts it, and returns the guest's end of its socket. `ports` lead to the machine.
    ///
    /// # Errors
    /// It is not installed, or the host has no way to any other.
    pub fn start(routes: routes::Default, ports: &[Port]) -> anyhow::Result<(Self, UnixStream)> {
        ensure_possible(routes)?;
        ensure_reached(routes, ports)?;
        let (ours, theirs) = inherited::socket_pair()?;
        Ok((spawn(arguments(routes, ports), &theirs)?, ours))
    }

    /// The same without ports, by [`start_later`] in the process that `later` starts.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn leave_to(
        mut later: Command,
        routes: routes::Default,
    ) -> anyhow::Result<(Self, UnixStream)> {
        ensure_possible(routes)?;
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let child = later
            .args(arguments(routes, &[]))
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn();
        Ok((Self(child.context("cannot start a process")?), ours))
    }

    /// Waits until it listens, if it is to, and is in the background.
    ///
    /// # Errors
    /// It gave up; says its own words.
    pub fn wait_until_ready(mut self) -> anyhow::Result<()> {
        let mut words = Vec::new();
        if let Some(stderr) = self.0.stderr.take() {
            // What cannot be read is not told.
            let _ = stderr.take(WORDS_MAX).read_to_end(&mut words);
        }
        let status = self
            .0
            .wait()
            .with_context(|| format!("cannot wait for {PASST}"))?;
        if status.success() {
            return Ok(());
        }
        match complaint(&String::from_utf8_lossy(&words)) {
            words if words.is_empty() => bail!("{PASST} ended ({status})"),
            words => bail!("{PASST}: {words}"),
        }
    }
}

/// Starts passt once the machine whose frames come on standard input speaks to somebody, and waits until
/// it is in the background; not at all if the machine ends before.
///
/// # Errors
/// Standard input is no socket, or passt gave up; says its own words.
pub fn start_later(arguments: Vec<OsString>) -> anyhow::Result<()> {
    let socket = io::stdin().as_fd().try_clone_to_owned();
    let socket = UnixStream::from(socket.context("there is no socket")?);
    if !patience::until_it_speaks(&socket).context("cannot listen to the machine")? {
        return Ok(());
    }
    fcntl_setfd(&socket, FdFlags::empty()).context("cannot hand a socket on")?;
    spawn(arguments, &socket)?.wait_until_ready()
}

/// Starts it with a socket that is not close-on-exec.
fn spawn(arguments: Vec<OsString>, socket: &impl AsRawFd) -> anyhow::Result<Passt> {
    let child = Command::new(PASST)
        .args(arguments)
        .args(["--fd", &socket.as_raw_fd().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Ok(Passt(
        child.with_context(|| format!("cannot start {PASST}"))?,
    ))
}

fn arguments(routes: routes::Default, ports: &[Port]) -> Vec<OsString> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
    // One guest; complaints on the standard error output, and no others.
    add(&["--quiet", "--stderr", "--one-off"]);
    // Nothing of the host's loopback, and no server for what the guest's init sets.
    add(&["--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra"]);
    match (routes.ipv4, routes.ipv6) {
        (true, false) => add(&["--ipv4-only"]),
        (false, true) => add(&["--ipv6-only"]),
        _ => {}
    }
    for (subnet, gateway) in families(routes) {
        add(&[
            "--address",
            &subnet.address.to_string(),
            "--gateway",
            &gateway.to_string(),
        ]);
        if subnet.address.is_ipv4() {
            add(&["--netmask", &subnet.prefix.to_string()]);
        }
    }
    for port in ports {
        // A socket is no matter of passt's.
        let Some(host) = port.host.ports() else {
            continue;
        };
        let flag = match port.protocol {
            Protocol::Tcp => "--tcp-ports",
            Protocol::Udp => "--udp-ports",
        };
        add(&[flag, &specification(port.address, host, port.guest)]);
    }
    words.into_iter().map(OsString::from).collect()
}

/// Address, ports of the host, and ports of the guest.
fn specification(address: IpAddr, host: PortRange, guest: PortRange) -> String {
    format!("{address}/{host}:{guest}")
}

/// What went wrong, in its own words, without what it always says.
fn complaint(words: &str) -> String {
    let lines = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.starts_with(noise)));
    lines.collect::<Vec<_>>().join("; ")
}

/// passt takes nothing of a family that the guest has no address of.
fn ensure_reached(routes: routes::Default, ports: &[Port]) -> anyhow::Result<()> {
    for address in ports.iter().map(|port| port.address) {
        let (has_route, family) = if address.is_ipv4() {
            (routes.ipv4, "IPv4")
        } else {
            (routes.ipv6, "IPv6")
        };
        ensure!(
            has_route,
            "cannot listen on {address}: that needs a default route for {family}, and the host has none"
        );
    }
    Ok(())
}

fn ensure_possible(routes: routes::Default) -> anyhow::Result<()> {
    ensure_installed(&env::var_os("PATH").unwrap_or_default())?;
    ensure!(
        routes.ipv4 || routes.ipv6,
        "type \"user\" needs a default route on the host, which has none"
    );
    Ok(())
}

fn ensure_installed(path: &std::ffi::OsStr) -> anyhow::Result<()> {
    let found = env::split_paths(path).any(|folder| folder.join(PASST).is_file());
    ensure!(
        found,
        "type \"user\" needs {PASST}, which is not installed: `apt-get install {PASST}`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: routes::Default = routes::Default {
        ipv4: true,
        ipv6: true,
    };

    #[test]
    fn ports_have_an_address_and_two_ranges() {
        let ports: Vec<Port> = ["8080:80", "[::1]:53:53/udp", "5000-5009:6000-6009"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let words = arguments(BOTH, &ports);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert!(words.contains(&"--no-map-gw"));
        assert_eq!(
            words[words.len() - 6..],
            [
                "--tcp-ports",
                "127.0.0.1/8080:80",
                "--udp-ports",
                "::1/53:53",
                "--tcp-ports",
                "127.0.0.1/5000-5009:6000-6009"
            ]
        );
    }

    #[test]
    fn a_missing_passt_is_told_with_its_package() {
        let error = ensure_installed("/no/such/folder".as_ref()).unwrap_err();
        assert!(
            error.to_string().ends_with("`apt-get install passt`"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_has_addresses_of_the_hosts_families() {
        let only = routes::Default {
            ipv4: true,
            ipv6: false,
        };
        assert_eq!(addresses(only), (vec![IPV4], vec![IPV4_GATEWAY]));
        assert_eq!(addresses(BOTH).0.len(), 2);
        let words = arguments(only, &[]);
        assert!(words.contains(&"--ipv4-only".into()));
    }

    #[test]
    fn ports_are_of_families_that_the_host_has_a_route_for() {
        let only = routes::Default {
            ipv4: true,
            ipv6: false,
        };
        let ports = ["8080:80".parse().unwrap(), "[::1]:8080:80".parse().unwrap()];
        assert!(ensure_reached(BOTH, &ports).is_ok());
        assert!(ensure_reached(only, &ports[..1]).is_ok());
        let error = ensure_reached(only, &ports).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on ::1: "), "{error}");
    }

    #[test]
    fn its_complaint_is_told_without_noise() {
        let words = "Failed to send 47 bytes to syslog\nDon't run as root. Changing to nobody...\n\
            Failed to send 52 bytes to syslog\nOverlapping port specifier 127.0.0.1/1:1\n\n";
        assert_eq!(complaint(words), "Overlapping port specifier 127.0.0.1/1:1");
    }
}
