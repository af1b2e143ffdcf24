//! Ports of the host that are to lead to the machine: free ones are picked, and those in use are
//! told of. passt takes them itself, and leaves out what it cannot have of a row: so they are taken
//! here first, and let go for it.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::handed::Handed;
use super::socket::{self, UnixSocket};
use crate::app::{HostEnd, Port, Protocol};

/// For a port to be let go: passt ends when it hears that its machine has ended, which may be after the
/// same machine is started again.
const PATIENCE: Duration = Duration::from_secs(2);

const PERIOD: Duration = Duration::from_millis(10);

/// `ports` with a number for each, and the socket of each number. Those that systemd listens at are
/// among `handed`.
///
/// # Errors
/// One cannot be had; says which.
pub fn take(ports: &[Port], handed: &mut Handed) -> anyhow::Result<Vec<(Port, Vec<Socket>)>> {
    let take = |(nth, port): (usize, &Port)| {
        let address = port.address;
        let mut settled = port.clone();
        let mut sockets = Vec::new();
        let host = match &port.host {
            HostEnd::Ports(host) => *host,
            HostEnd::Socket(path) => {
                let socket = socket::listen(path).with_context(|| {
                    format!("ports[{nth}]: cannot listen on {}", path.display())
                })?;
                return Ok((settled, vec![Socket::Unix(socket)]));
            }
            HostEnd::Handed(name) => {
                let sockets = handed.take(name).with_context(|| format!("ports[{nth}]"))?;
                return Ok((settled, vec![Socket::Handed(sockets)]));
            }
        };
        for number in host.first..=host.last {
            let socket = Socket::bind(port.protocol, (address, number).into());
            let socket = socket.with_context(|| {
                format!(
                    "ports[{nth}]: cannot listen on {}",
                    SocketAddr::from((address, number))
                )
            })?;
            if number == 0 {
                settled.host = socket.port()?.into();
            }
            sockets.push(socket);
        }
        Ok((settled, sockets))
    };
    ports.iter().enumerate().map(take).collect()
}

/// A port, taken.
#[derive(Debug)]
pub enum Socket {
    /// It listens.
    Tcp(TcpListener),
    /// It is bound.
    Udp(UdpSocket),
    /// It listens.
    Unix(UnixSocket),
    /// They listen, and stay systemd's.
    Handed(Vec<OwnedFd>),
}

impl Socket {
    /// Waits a while for one that is in use.
    fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::try_bind(protocol, address) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    thread::sleep(PERIOD);
                }
                bound => return bound,
            }
        }
    }

    fn try_bind(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp => TcpListener::bind(address).map(Self::Tcp),
            Protocol::Udp => UdpSocket::bind(address).map(Self::Udp),
        }
    }

    fn port(&self) -> io::Result<u16> {
        let address = match self {
            Self::Tcp(socket) => socket.local_addr()?,
            Self::Udp(socket) => socket.local_addr()?,
            Self::Unix(_) | Self::Handed(_) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::PortRange;

    fn ports(texts: &[&str]) -> Vec<Port> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_free_port_is_another() {
        let taken = take(&ports(&[":80", ":443", ":53/udp"]), &mut Handed::default()).unwrap();
        let settled: Vec<Port> = taken.into_iter().map(|(port, _)| port).collect();
        let numbers: Vec<u16> = settled
            .iter()
            .map(|port| port.host.ports().unwrap().first)
            .collect();
        assert!(!numbers.contains(&0));
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!(settled[0].guest, PortRange::from(80));
    }

    #[test]
    fn a_port_in_use_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let wanted = ports(&[":80", &format!("{number}:80")]);
        let error = take(&wanted, &mut Handed::default()).unwrap_err();
        let expected = format!(
            "ports[1]: cannot listen on 127.0.0.1:{number}: Address already in use (os error 98)"
        );
        assert_eq!(format!("{error:#}"), expected);
        // The other protocol has it still.
        let other = ports(&[&format!("{number}:80/udp")]);
        assert!(take(&other, &mut Handed::default()).is_ok());
    }

    #[test]
    fn a_port_that_is_let_go_is_waited_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = ports(&[&format!("{}:80", taken.local_addr().unwrap().port())]);
        let other = thread::spawn(move || {
            thread::sleep(PERIOD * 3);
            drop(taken);
        });
        take(&wanted, &mut Handed::default()).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn what_was_not_handed_over_is_told() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut handed = Handed::new(vec![("web".into(), socket.into())]).unwrap();
        let wanted = ports(&["systemd:web:80", "systemd:api:81"]);
        let error = take(&wanted, &mut handed).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("ports[1]: systemd has handed over no socket \"api\""),
            "{error}"
        );
    }
}
