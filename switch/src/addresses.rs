//! The addresses of a network: which they are follows from its name, and whose each is from the
//! machine's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Bits of the network's part.
pub const PREFIX: u8 = 24;

/// The switch itself.
const HOST: u8 = 1;

/// The first and the last that a machine can have; behind them is that of all.
const FIRST: u8 = 2;
const LAST: u8 = 254;
const COUNT: u64 = LAST as u64 - FIRST as u64 + 1;

/// Second bytes of networks: of 10.0.0.0/8, that part which hand-made networks use less.
const SECOND_FIRST: u8 = 64;
const SECONDS: u64 = 192;

/// The addresses of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet([u8; 3]);

impl Subnet {
    /// That of the network `name`.
    pub fn of(name: &str) -> Self {
        let hash = hash(name);
        let second = u8::try_from(hash % SECONDS).unwrap_or_default();
        let third = hash.to_be_bytes()[0];
        Self([10, SECOND_FIRST.wrapping_add(second), third])
    }

    /// The address whose last byte is `last`.
    fn address(self, last: u8) -> Ipv4Addr {
        let [first, second, third] = self.0;
        Ipv4Addr::new(first, second, third, last)
    }

    /// The network's own.
    pub fn base(self) -> Ipv4Addr {
        self.address(0)
    }

    /// That of the switch.
    pub fn host(self) -> Ipv4Addr {
        self.address(HOST)
    }

    /// Whether a machine can have `address`.
    fn has(self, address: Ipv4Addr) -> bool {
        let [.., last] = address.octets();
        self.address(last) == address && (FIRST..=LAST).contains(&last)
    }
}

/// Whose each address is. One that has left keeps its address until it is needed.
#[derive(Debug)]
pub struct Leases {
    subnet: Subnet,
    /// Names by their addresses: at most as many as the subnet has.
    names: BTreeMap<Ipv4Addr, String>,
}

impl Leases {
    /// Nobody has one.
    pub fn new(subnet: Subnet) -> Self {
        let names = BTreeMap::new();
        Self { subnet, names }
    }

    /// The address of the machine `name`: `wanted` if it wants a certain one, else the one that it
    /// had, else one by its name. Addresses of machines for which `is_there` is false are free.
    ///
    /// # Errors
    /// It cannot have what it wants, or all are taken; says why.
    pub fn take(
        &mut self,
        name: &str,
        wanted: Option<Ipv4Addr>,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Ipv4Addr, String> {
        let address = match wanted {
            Some(wanted) => self.wanted(name, wanted, &is_there)?,
            None => self
                .had(name)
                .or_else(|| self.free(name, &is_there))
                .ok_or("all addresses of the network are taken")?,
        };
        self.names.retain(|_, holder| holder != name);
        self.names.insert(address, name.to_owned());
        Ok(address)
    }

    fn wanted(
        &self,
        name: &str,
        wanted: Ipv4Addr,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Ipv4Addr, String> {
        if !self.subnet.has(wanted) {
            let (first, last) = (self.subnet.address(FIRST), self.subnet.address(LAST));
            return Err(format!(
                "{wanted} is no address that it can give: it has {first} to {last}"
            ));
        }
        match self.names.get(&wanted) {
            Some(holder) if holder != name && is_there(holder) => {
                Err(format!("{wanted} is the address of {holder}"))
            }
            _ => Ok(wanted),
        }
    }

    fn had(&self, name: &str) -> Option<Ipv4Addr> {
        let mut all = self.names.iter();
        all.find_map(|(address, holder)| (holder == name).then_some(*address))
    }

    /// The first from the name's own place on that nobody had, else one whose machine is gone.
    fn free(&self, name: &str, is_there: impl Fn(&str) -> bool) -> Option<Ipv4Addr> {
        let start = u8::try_from(hash(name) % COUNT).unwrap_or_default();
        let own = FIRST.wrapping_add(start);
        let in_order = (own..=LAST).chain(FIRST..own);
        let mut all = in_order.map(|last| self.subnet.address(last));
        let gone = |address: &Ipv4Addr| !self.names.get(address).is_some_and(|name| is_there(name));
        all.clone()
            .find(|address| !self.names.contains_key(address))
            .or_else(|| all.find(gone))
    }
}

/// The same on each host and in each version: FNV-1a, and as that leaves short names much alike, what
/// `MurmurHash3` ends with.
fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn there(_: &str) -> bool {
        true
    }

    fn leases() -> Leases {
        Leases::new(Subnet::of("shop"))
    }

    #[test]
    fn networks_differ_and_stay() {
        let names: Vec<_> = (0..200).map(|n| format!("net{n}")).collect();
        let all: BTreeSet<_> = names.iter().map(|name| Subnet::of(name).base()).collect();
        assert_eq!(all.len(), 200);
        assert_eq!(Subnet::of("shop"), Subnet::of("shop"));
        for address in all {
            let [first, second, _, last] = address.octets();
            assert!(first == 10 && second >= 64 && last == 0, "{address}");
        }
    }

    #[test]
    fn a_machine_that_comes_back_gets_its_address() {
        let mut leases = leases();
        let first = leases.take("db", None, there).unwrap();
        leases.take("web", None, there).unwrap();
        assert_eq!(leases.take("db", None, there), Ok(first));
        // Also from another switch.
        assert_eq!(self::leases().take("db", None, there), Ok(first));
    }

    #[test]
    fn all_have_addresses_of_their_own_until_there_are_none() {
        let mut leases = leases();
        let name = |n| format!("m{n}");
        let all: BTreeSet<_> = (0..253)
            .map(|n| leases.take(&name(n), None, there).unwrap())
            .collect();
        assert_eq!(all.len(), 253);
        assert!(!all.contains(&leases.subnet.host()));
        let error = leases.take("late", None, there).unwrap_err();
        assert_eq!(error, "all addresses of the network are taken");
        // One whose machine has gone is free then.
        let late = leases.take("late", None, |name| name != "m7").unwrap();
        assert_eq!(leases.names.len(), 253);
        assert!(leases.had("m7").is_none() && all.contains(&late));
    }

    #[test]
    fn a_wish_wins_unless_somebody_has_it() {
        let mut leases = leases();
        let wish = leases.subnet.address(77);
        assert_eq!(leases.take("a", Some(wish), there), Ok(wish));
        assert_eq!(leases.take("a", Some(wish), there), Ok(wish));
        let error = leases.take("b", Some(wish), there).unwrap_err();
        assert_eq!(error, format!("{wish} is the address of a"));
        assert_eq!(leases.take("b", Some(wish), |_| false), Ok(wish));
        for wrong in [
            leases.subnet.address(1),
            leases.subnet.address(255),
            Ipv4Addr::LOCALHOST,
        ] {
            let error = leases.take("c", Some(wrong), there).unwrap_err();
            assert!(
                error.starts_with(&format!("{wrong} is no address")),
                "{error}"
            );
        }
    }
}
