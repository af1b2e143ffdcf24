//! Whether the host can reach the world by IPv4 and IPv6, by its default routes (`proc(5)`,
//! `/proc/net/route` and `/proc/net/ipv6_route`).

use std::fs;

/// The families that the host has a default route for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Default {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Default {
    /// Those of this network namespace.
    pub fn of_host() -> Self {
        // Without the file there is no such family.
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            ipv4: has_ipv4(&read("/proc/net/route")),
            ipv6: has_ipv6(&read("/proc/net/ipv6_route")),
        }
    }
}

/// Interface, destination, gateway, flags, three counters, mask.
fn has_ipv4(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    })
}

/// Destination, its prefix, source, its prefix, next hop, four numbers, interface. Where there is
/// no default route, the table has one that refuses, through the loopback interface.
fn has_ipv6(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let is_default = fields
            .first()
            .is_some_and(|to| to.bytes().all(|digit| digit == b'0'));
        is_default
            && fields.get(1) == Some(&"00")
            && fields.get(9).is_some_and(|name| *name != "lo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_has_no_destination() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let local = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let world = "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert!(!has_ipv4(&format!("{head}{local}")));
        assert!(has_ipv4(&format!("{head}{local}{world}")));
    }

    #[test]
    fn a_route_that_refuses_is_none() {
        let zero = "0".repeat(32);
        let line = |name| {
            format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       {name}\n")
        };
        assert!(!has_ipv6(&line("lo")));
        assert!(has_ipv6(&format!("{}{}", line("lo"), line("eth0"))));
    }
}
