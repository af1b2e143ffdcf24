//! Addresses as people write them: `"10.0.0.1"`, `"10.0.0.1/24"`, `"02:00:00:00:00:01"`.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::quote::quoted;

/// An address and how many of its bits name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let is_plain = prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix
                .parse()
                .ok()
                .filter(|bits| is_plain && *bits <= most)?;
            Some(Self { address, prefix })
        });
        parsed.ok_or_else(|| {
            let found = quoted(text);
            format!("must be an address and its prefix such as \"10.0.0.2/24\", is {found}")
        })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        let is_good = bytes.iter_mut().all(|byte| {
            let part = parts.next().filter(|part| part.len() == 2);
            let parsed = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            parsed.is_some_and(|parsed| {
                *byte = parsed;
                !part.is_some_and(|part| part.starts_with('+'))
            })
        });
        let found = quoted(text);
        if !is_good || parts.next().is_some() {
            return Err(format!(
                "must be six bytes such as \"02:00:00:00:00:01\", is {found}"
            ));
        }
        if bytes[0] & 1 != 0 {
            return Err(format!(
                "must be the address of one card, whose first byte is even, is {found}"
            ));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&bytes.join(":"))
    }
}

/// A value that is a string in the file.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData))
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Subnet {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Subnet".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$" })
    }
}

impl JsonSchema for Mac {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mac".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$" })
    }
}

/// Reads an address.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let Address(address) = Address::deserialize(deserializer)?;
    Ok(address)
}

/// Reads an address where there may be none.
pub fn read_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    read(deserializer).map(Some)
}

/// Reads a list of addresses.
pub fn read_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let addresses = Vec::<Address>::deserialize(deserializer)?;
    Ok(addresses.into_iter().map(|one| one.0).collect())
}

/// The schema of an address.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "anyOf": [
        { "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$" },
        { "pattern": "^[0-9a-fA-F]*:[0-9a-fA-F:.]*$" },
    ] })
}

/// An address as a value of its own.
pub struct Address(pub IpAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = quoted(text);
        let parsed = text.parse().map(Self);
        parsed.map_err(|_| format!("must be an address such as \"10.0.0.1\", is {found}"))
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_an_address_with_its_prefix() {
        for text in ["10.0.0.2/24", "fd00::2/64", "0.0.0.0/0", "::1/128"] {
            assert_eq!(text.parse::<Subnet>().unwrap().to_string(), text);
        }
        for text in [
            "10.0.0.2",
            "10.0.0.2/33",
            "10.0.0.2/+1",
            "10.0.0/24",
            "::/129",
            "/8",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cards_address_is_that_of_one_card() {
        let text = "02:00:5e:ff:00:1a";
        assert_eq!(text.parse::<Mac>().unwrap().to_string(), text);
        for text in [
            "",
            "02:00:5e:ff:00",
            "02:00:5e:ff:00:1a:00",
            "03:00:5e:ff:00:1a",
            "2:0:0:0:0:1",
            "+2:00:00:00:00:00",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
