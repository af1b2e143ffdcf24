//! Sections `hosts` and `dns`: what names the machine knows by itself, and whom it asks for others.
//!
//! hosts(5), resolv.conf(5). What machines of a network are called is in [`super::Interface`].

use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::address::{self, Address};
use super::check::{ALIAS_PATTERN, MAX_HOSTNAME_SIZE};

/// Names of `hosts`; a machine that knows more asks a server.
pub const MAX_HOSTS: usize = 1024;

/// Addresses of one of them.
pub const MAX_HOST_ADDRESSES: usize = 16;

/// glibc asks no more (`MAXNS`).
pub const MAX_SERVERS: usize = 3;

/// Domains, and options, of `dns`; far more than anyone has.
pub const MAX_WORDS: usize = 32;

/// Bytes of one of them: a name in the DNS (RFC 1035 §2.3.4).
pub const MAX_WORD_SIZE: usize = 253;

/// Addresses of a name: one as a string, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

/// Whom the machine asks for names, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Addresses of name servers, instead of the host's. Those of networks between machines are
    /// asked first, and of all of them three.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "address::read_all"
    )]
    #[schemars(schema_with = "servers")]
    pub servers: Vec<IpAddr>,
    /// Domains in which a name without a dot is looked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_WORDS), inner(regex(pattern = ALIAS_PATTERN), length(max = MAX_WORD_SIZE)))]
    pub search: Vec<String>,
    /// Options of `resolv.conf(5)`, such as "ndots:2".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_WORDS), inner(regex(pattern = "^[!-~]+$"), length(max = MAX_WORD_SIZE)))]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0[..] {
            [one] => one.serialize(serializer),
            _ => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressesVisitor;

        impl<'de> Visitor<'de> for AddressesVisitor {
            type Value = Addresses;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address, or a list of addresses")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                let Address(address) = text.parse().map_err(E::custom)?;
                Ok(Addresses(vec![address]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(Address(address)) = items.next_element()? {
                    addresses.push(address);
                }
                Ok(Addresses(addresses))
            }
        }

        deserializer.deserialize_any(AddressesVisitor)
    }
}

pub(super) fn hosts(generator: &mut SchemaGenerator) -> Schema {
    let address = address::schema(generator);
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": ALIAS_PATTERN, "maxLength": MAX_HOSTNAME_SIZE },
        "additionalProperties": { "anyOf": [
            address,
            { "type": "array", "items": address, "minItems": 1, "maxItems": MAX_HOST_ADDRESSES },
        ] },
        "maxProperties": MAX_HOSTS,
    })
}

fn servers(generator: &mut SchemaGenerator) -> Schema {
    let address = address::schema(generator);
    json_schema!({ "type": "array", "items": address, "maxItems": MAX_SERVERS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_address_or_several() {
        for text in ["\"10.0.0.1\"", "[\"10.0.0.1\",\"::1\"]"] {
            let addresses: Addresses = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&addresses).unwrap(), text);
        }
        for text in ["\"\"", "\"db\"", "[\"10.0.0\"]", "1", "\"10.0.0.1/8\""] {
            assert!(serde_json::from_str::<Addresses>(text).is_err(), "{text}");
        }
    }
}
