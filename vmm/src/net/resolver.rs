//! The host's name servers, as a machine can use them (resolv.conf(5)).
//!
//! One on the host's loopback is out of the machine's reach. systemd-resolved, which is such a one,
//! keeps those that it asks itself in a file of its own.

use std::fs;
use std::net::IpAddr;

/// In this order; the first that names a server which a machine can reach counts.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// glibc asks no more (`MAXNS`).
const SERVERS_MAX: usize = 3;

/// The servers that a machine can ask; none if there are none.
pub fn name_servers() -> Vec<IpAddr> {
    let lists = FILES.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        in_reach(&text)
    });
    lists
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

fn in_reach(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        // An address with a scope ("fe80::1%eth0") is one of the host's links and does not parse.
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    });
    servers.take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_hosts_loopback_and_links_are_left_out() {
        let text = "# comment\nsearch example\nnameserver 127.0.0.53\nnameserver 10.0.0.1\n\
            nameserver fe80::1%eth0\nnameserver ::1\nnameserver 2001:db8::1\noptions edns0\n";
        let expected: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(in_reach(text), expected);
    }

    #[test]
    fn there_are_at_most_three() {
        let text = "nameserver 10.0.0.1\n".repeat(5);
        assert_eq!(in_reach(&text).len(), 3);
    }
}
