//! Section `ports`: ports of the host that lead to the machine's.
//!
//! Short form: `"8080:80"`, `"[::1]:8080:80"`, `"0.0.0.0:5000-5009:5000-5009/udp"`,
//! `"unix:/run/web.sock:80"`, `"systemd:web:80"`.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::quote::quoted;
use super::{address, text_form};

/// Ports of one machine in all: each is a descriptor of passt's for as long as the machine runs.
pub const MAX_PORTS: usize = 1024;

/// Bytes of a socket's path: what the kernel has room for, less the NUL (`sockaddr_un`).
pub const MAX_SOCKET_PATH_SIZE: usize = 107;

/// Characters of the name of a socket that systemd hands over: with a machine's name and the words
/// around both it is a unit's, which has 255 (`UNIT_NAME_MAX`).
pub const MAX_SOCKET_NAME: usize = 128;

/// Ports of the host that lead to as many of the machine's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The host's port, or several such as "5000-5009". 0, the default, is one that is free, which
    /// mvm tells at the start. A socket's absolute path behind "unix:" is that socket, which this
    /// user alone can connect to. A name behind "systemd:" is the sockets that systemd hands to the
    /// machine's service by it (`FileDescriptorName=` of a .socket unit).
    #[serde(default)]
    #[schemars(schema_with = "host_schema")]
    pub host: HostEnd,
    /// The machine's port, or as many as the host's.
    #[schemars(schema_with = "guest_schema")]
    pub guest: PortRange,
    /// The host's address. By default 127.0.0.1, which only the host itself reaches.
    #[serde(default = "loopback", deserialize_with = "address::read")]
    #[schemars(schema_with = "address::schema")]
    pub address: IpAddr,
    /// Of which protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

const fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Where the host's programs connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEnd {
    /// At ports.
    Ports(PortRange),
    /// At a UNIX socket, by its absolute path.
    Socket(PathBuf),
    /// Where systemd listens for the machine's service, by the name that it gives the sockets.
    Handed(String),
}

/// Stands before a socket's path.
const SOCKET: &str = "unix:";

/// Stands before the name of sockets that systemd hands over.
const HANDED: &str = "systemd:";

impl HostEnd {
    /// The ports, unless it is a socket.
    pub fn ports(&self) -> Option<PortRange> {
        match self {
            Self::Ports(ports) => Some(*ports),
            Self::Socket(_) | Self::Handed(_) => None,
        }
    }

    /// Whether it is the same one at each start.
    pub fn is_fixed(&self) -> bool {
        self.ports() != Some(PortRange::default())
    }

    /// The name by which systemd hands it over, if it does.
    pub fn handed(&self) -> Option<&str> {
        match self {
            Self::Handed(name) => Some(name),
            Self::Ports(_) | Self::Socket(_) => None,
        }
    }

    /// What is wrong with a socket's path or name.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::Ports(_) => None,
            Self::Socket(path) => {
                let is_good = path.is_absolute() && path.as_os_str().len() <= MAX_SOCKET_PATH_SIZE;
                (!is_good).then(|| {
                    let path = quoted(&path.to_string_lossy());
                    format!(
                        "must be an absolute path of at most {MAX_SOCKET_PATH_SIZE} bytes behind \"unix:\", is {path}"
                    )
                })
            }
            Self::Handed(name) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
                let is_good =
                    (1..=MAX_SOCKET_NAME).contains(&name.len()) && name.chars().all(is_plain);
                (!is_good).then(|| {
                    let name = quoted(name);
                    format!(
                        "must be 1 to {MAX_SOCKET_NAME} letters, digits, \"_\", \".\", \"@\" and \"-\" behind \"systemd:\", is {name}"
                    )
                })
            }
        }
    }

    /// The socket that `text` is, if it is one.
    fn socket(text: &str) -> Option<Self> {
        let path = text.strip_prefix(SOCKET).map(Into::into).map(Self::Socket);
        path.or_else(|| text.strip_prefix(HANDED).map(Into::into).map(Self::Handed))
    }
}

impl Default for HostEnd {
    fn default() -> Self {
        Self::Ports(PortRange::default())
    }
}

impl From<u16> for HostEnd {
    fn from(port: u16) -> Self {
        Self::Ports(port.into())
    }
}

impl FromStr for HostEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Self::socket(text) {
            Some(socket) => Ok(socket),
            None => text.parse().map(Self::Ports),
        }
    }
}

impl fmt::Display for HostEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(ports) => ports.fmt(f),
            Self::Socket(path) => write!(f, "{SOCKET}{}", path.display()),
            Self::Handed(name) => write!(f, "{HANDED}{name}"),
        }
    }
}

impl Serialize for HostEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ports(ports) => ports.serialize(serializer),
            Self::Socket(_) | Self::Handed(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for HostEnd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(PhantomData))
    }
}

/// What a port is one of.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    serde::Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port, or several in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, which is not less.
    pub last: u16,
}

impl PortRange {
    /// How many.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("must be {PORTS}, is {}", quoted(text)));
        };
        if first > last {
            let found = quoted(text);
            return Err(format!("must begin with the lesser port, is {found}"));
        }
        Ok(Self { first, last })
    }
}

const PORTS: &str = "a port from 0 to 65535 or several such as \"5000-5009\"";

fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText(PhantomData))
    }
}

struct NumberOrText<T>(PhantomData<T>);

impl<T: From<u16> + FromStr<Err = String>> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PORTS)
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<T, E> {
        let port = u16::try_from(port);
        port.map(T::from)
            .map_err(|_| E::invalid_value(de::Unexpected::Other("another number"), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let found = quoted(text);
            format!("must be such as \"8080:80\" or \"[::1]:8080:80/udp\", is {found}")
        };
        let socket = text.rsplit_once(':');
        let socket = socket.and_then(|(host, guest)| Some((HostEnd::socket(host)?, guest)));
        if let Some((host, guest)) = socket {
            let guest = guest.strip_suffix("/tcp").unwrap_or(guest);
            return Ok(Self {
                host,
                guest: guest.parse().map_err(|_| wrong())?,
                address: loopback(),
                protocol: Protocol::Tcp,
            });
        }
        let (rest, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let (rest, guest) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (loopback(), rest),
            Some((address, host)) => {
                let inner = address
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'));
                let parsed = match inner {
                    Some(inner) => inner.parse().map(IpAddr::V6).ok(),
                    None => address.parse().map(IpAddr::V4).ok(),
                };
                (parsed.ok_or_else(wrong)?, host)
            }
        };
        // What has digits alone is meant for ports, and what is wrong with them can be told.
        let range = |text: &str| {
            let is_meant = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            let parsed = text.parse::<PortRange>();
            parsed.map_err(|why| {
                if is_meant && !text.is_empty() {
                    why
                } else {
                    wrong()
                }
            })
        };
        let host = match host {
            "" => PortRange::default(),
            _ => range(host)?,
        };
        Ok(Self {
            host: HostEnd::Ports(host),
            guest: range(guest)?,
            address,
            protocol,
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            guest,
            address,
            protocol,
        } = self;
        match address {
            _ if host.ports().is_none() => write!(f, "{host}:{guest}/{protocol}"),
            IpAddr::V4(address) => write!(f, "{address}:{host}:{guest}/{protocol}"),
            IpAddr::V6(address) => write!(f, "[{address}]:{host}:{guest}/{protocol}"),
        }
    }
}

/// Reads a list of ports, each an object or in short form.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Port>, D::Error> {
    let list = Vec::<text_form::Item<Port>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|item| item.0).collect())
}

/// The schema of the list.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    const PATTERN: &str = r"^(unix:/.*|systemd:[A-Za-z0-9_.@-]+|(([0-9.]+|\[[0-9a-fA-F:.]+\]):)?([0-9]{1,5}(-[0-9]{1,5})?)?):[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp))?$";
    let whole = generator.subschema_for::<Port>();
    json_schema!({
        "type": "array",
        "items": { "anyOf": [{ "type": "string", "pattern": PATTERN }, whole] },
        "maxItems": MAX_PORTS,
    })
}

fn host_schema(_: &mut SchemaGenerator) -> Schema {
    range_schema(
        0,
        "^(unix:/.+|systemd:[A-Za-z0-9_.@-]+|[0-9]{1,5}(-[0-9]{1,5})?)$",
    )
}

fn guest_schema(_: &mut SchemaGenerator) -> Schema {
    range_schema(1, "^[0-9]{1,5}(-[0-9]{1,5})?$")
}

fn range_schema(least: u16, pattern: &str) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "integer", "minimum": least, "maximum": u16::MAX },
        { "type": "string", "pattern": pattern },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_says_all_that_an_object_does() {
        for (short, long) in [
            ("8080:80", "127.0.0.1:8080:80/tcp"),
            (":80", "127.0.0.1:0:80/tcp"),
            ("0:80/tcp", "127.0.0.1:0:80/tcp"),
            ("0.0.0.0:53:53/udp", "0.0.0.0:53:53/udp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("5000-5009:6000-6009", "127.0.0.1:5000-5009:6000-6009/tcp"),
            ("unix:/run/web.sock:80", "unix:/run/web.sock:80/tcp"),
            ("unix:/a:b/c:80/tcp", "unix:/a:b/c:80/tcp"),
            ("systemd:mvm@web.socket:80", "systemd:mvm@web.socket:80/tcp"),
        ] {
            assert_eq!(short.parse::<Port>().unwrap().to_string(), long);
        }
    }

    #[test]
    fn what_is_wrong_with_a_number_is_told() {
        let why = |text: &str| text.parse::<Port>().unwrap_err();
        let backwards = "must begin with the lesser port, is \"8010-8000\"";
        assert_eq!(why("8010-8000:80-90"), backwards);
        let large = format!("must be {PORTS}, is \"99999\"");
        assert_eq!(why("80:99999/udp"), large);
        let example = "must be such as \"8080:80\" or \"[::1]:8080:80/udp\", is \"web:80\"";
        assert_eq!(why("web:80"), example);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "80",
            "a:80",
            "8080:",
            "8080:80/sctp",
            "8080:+80",
            "::1:8080:80",
            "65536:80",
            "9-1:9-1",
            "localhost:8080:80",
            "[127.0.0.1]:8080:80",
            "1:2:3:4",
            "unix:/run/web.sock",
            "unix:/run/web.sock:80/udp",
            "systemd:web",
            "systemd:web:80/udp",
        ] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }
}
