//! Sockets that somebody else listens at and has handed over, each by a name: systemd does, for a
//! service that it starts when somebody connects (`sd_listen_fds(3)`).

use std::os::fd::OwnedFd;

use anyhow::{Context, ensure};
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

/// Sockets, by name. Several may have one.
#[derive(Debug, Default)]
pub struct Handed(Vec<(String, OwnedFd)>);

impl Handed {
    /// Sockets with their names.
    ///
    /// # Errors
    /// One is not a stream socket that listens; says which.
    pub fn new(sockets: Vec<(String, OwnedFd)>) -> anyhow::Result<Self> {
        for (name, socket) in &sockets {
            let cannot = || format!("cannot use the socket {name:?} of systemd's");
            let kind = socket_type(socket).with_context(cannot)?;
            let is_listening = socket_acceptconn(socket).with_context(cannot)?;
            ensure!(
                kind == SocketType::STREAM && is_listening,
                "{}: it must be of ListenStream= and of Accept=no",
                cannot()
            );
        }
        Ok(Self(sockets))
    }

    /// All that are left.
    pub fn sockets(&self) -> &[(String, OwnedFd)] {
        &self.0
    }

    /// Takes those of that name out.
    ///
    /// # Errors
    /// There are none.
    pub fn take(&mut self, name: &str) -> anyhow::Result<Vec<OwnedFd>> {
        let all = std::mem::take(&mut self.0).into_iter();
        let (taken, left) = all.partition(|(known, _)| known == name);
        self.0 = left;
        let taken: Vec<(String, OwnedFd)> = taken;
        ensure!(
            !taken.is_empty(),
            "systemd has handed over no socket {name:?}: it does by FileDescriptorName= of a .socket \
             unit, to a service that runs its machine in the foreground"
        );
        Ok(taken.into_iter().map(|(_, socket)| socket).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn listener() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn all_of_a_name_are_taken_together_and_once() {
        let names = ["web", "api", "web"];
        let sockets = names.map(|name| (name.into(), listener()));
        let mut handed = Handed::new(sockets.into()).unwrap();
        assert_eq!(handed.take("web").unwrap().len(), 2);
        assert!(handed.take("web").is_err());
        let left: Vec<_> = handed.sockets().iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["api"]);
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let (client, _other) = UnixStream::pair().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [OwnedFd::from(client), datagrams.into()] {
            let error = Handed::new(vec![("web".into(), socket)]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "cannot use the socket \"web\" of systemd's: it must be of ListenStream= and of Accept=no"
            );
        }
    }
}
