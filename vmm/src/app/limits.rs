//! Section `limits`: what of the host the machine may use, its monitor included.
//!
//! The kernel keeps these, but for `nofile` by a control group (version 2) that holds the monitor. So
//! they bound the guest and the monitor together, whatever either does.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};

use super::number_or_text::{self, NumberOrText};
use super::quote::quoted;
use super::size::MIB;
use super::{App, Bytes, count};

/// Devices with limits of their own.
pub const MAX_LIMITED_DEVICES: usize = 64;

/// Weights go from 1 to this (`CGROUP_WEIGHT_MAX`); 100 is what everybody else has.
pub const MAX_WEIGHT: u32 = 10_000;

/// Most processes that a kernel can have (`PID_MAX_LIMIT`).
pub const MAX_PIDS: u32 = 1 << 22;

/// Numbers and ranges of processors, such as "0-3,8".
pub const CPU_LIST_PATTERN: &str = "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$";

/// Descriptors with which a monitor still works: those of its devices, and some for shares and ports.
pub const MIN_NOFILE: u32 = 128;

/// Most that a kernel gives to a process (`sysctl_nr_open_max`, rounded down).
pub const MAX_NOFILE: u32 = i32::MAX as u32 & !63;

/// Names of slices, but for the backslashes of escaped ones.
pub const SLICE_PATTERN: &str = r"^[A-Za-z0-9:_.@-]{1,200}\.slice$";

/// What of the host the machine may use, its monitor included. All but nofile needs control groups of
/// version 2 that this user may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Time of the host's processors: "150%" or 1.5 is one and a half of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CpuQuota")]
    pub cpu: Option<CpuQuota>,
    /// Its part of processors that others want too, where all others have 100.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "weight"
    )]
    #[schemars(with = "u32", range(min = 1, max = MAX_WEIGHT))]
    pub cpu_weight: Option<u32>,
    /// The host's processors that it may run on, such as "0-3,8".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = CPU_LIST_PATTERN))]
    pub cpus: Option<String>,
    /// Memory of the guest and of its monitor, such as "512M", above which the kernel ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub memory: Option<Bytes>,
    /// Memory above which the kernel slows it down and takes pages back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub memory_high: Option<Bytes>,
    /// How much of it may be in the host's swap; "0K" is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub swap: Option<Bytes>,
    /// Threads of the monitor and of the programs that it starts on the host.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "pids"
    )]
    #[schemars(with = "u32", range(min = 1, max = MAX_PIDS))]
    pub pids: Option<u32>,
    /// Descriptors that the monitor, and each program that it starts on the host, has open at most:
    /// files of shares, connections, disks. By default as many as the host lets it have.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "nofile"
    )]
    #[schemars(with = "u32", range(min = MIN_NOFILE, max = MAX_NOFILE))]
    pub nofile: Option<u32>,
    /// The slice of systemd's that its scope is in, and the unit that `mvm generate` writes, such as
    /// "machine.slice".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = SLICE_PATTERN))]
    pub slice: Option<String>,
    /// Its part of disks that others want too, where all others have 100.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "weight"
    )]
    #[schemars(with = "u32", range(min = 1, max = MAX_WEIGHT))]
    pub io_weight: Option<u32>,
    /// How fast it may read and write, by the disk or a path on it, such as "/dev/sda" or "/var".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = MAX_LIMITED_DEVICES), extend("propertyNames" = { "pattern": "^(/|x-)" }))]
    pub io: BTreeMap<String, IoLimits>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How fast a machine may use a disk of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoLimits {
    /// Bytes read in a second, such as "10M".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub read_bps: Option<Bytes>,
    /// Bytes written in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub write_bps: Option<Bytes>,
    /// Reads in a second.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "operations"
    )]
    #[schemars(with = "u32", range(min = 1))]
    pub read_iops: Option<u32>,
    /// Writes in a second.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "operations"
    )]
    #[schemars(with = "u32", range(min = 1))]
    pub write_iops: Option<u32>,
}

/// Whether a slice may be called so.
pub(super) fn is_slice(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@-".contains(&byte);
    name.strip_suffix(".slice")
        .is_some_and(|stem| (1..=200).contains(&stem.len()) && stem.bytes().all(is_plain))
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count::number(
        deserializer,
        format_args!("a whole number from 1 to {MAX_WEIGHT}"),
    )
    .map(Some)
}

fn pids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count::number(
        deserializer,
        format_args!("a whole number from 1 to {MAX_PIDS}"),
    )
    .map(Some)
}

fn nofile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count::number(
        deserializer,
        format_args!("a whole number from {MIN_NOFILE} to {MAX_NOFILE}"),
    )
    .map(Some)
}

fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count::number(deserializer, format_args!("a whole number from 1")).map(Some)
}

/// Time of processors, in hundredths of one. In the file: `"150%"`, or a number of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuQuota {
    percent: u32,
}

impl CpuQuota {
    /// Least: the kernel's 1 ms (`min_cfs_quota_period`) of the usual 100.
    pub const MIN: Self = Self { percent: 1 };

    /// Most: 1024 processors, more than a machine can keep busy.
    pub const MAX: Self = Self { percent: 102_400 };

    /// In hundredths of a processor.
    pub const fn percent(self) -> u32 {
        self.percent
    }

    /// So many processors, if that is a whole number of hundredths.
    pub fn from_processors(processors: f64) -> Option<Self> {
        let percent = processors * 100.0;
        let whole = percent.round();
        let is_in_range =
            (f64::from(Self::MIN.percent)..=f64::from(Self::MAX.percent)).contains(&whole);
        // The product of two decimal fractions is rarely exact.
        if !is_in_range || (percent - whole).abs() > 1e-6 {
            return None;
        }
        #[expect(clippy::cast_sign_loss, reason = "it is in a range above zero")]
        let percent = whole as u32;
        Some(Self { percent })
    }
}

impl std::str::FromStr for CpuQuota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .strip_suffix('%')
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
        digits
            .and_then(|digits| digits.parse().ok())
            .map(|percent| Self { percent })
            .filter(|quota| (Self::MIN..=Self::MAX).contains(quota))
            .ok_or_else(|| {
                let (least, most) = (Self::MIN, Self::MAX);
                format!(
                    "must be from \"{least}\" to \"{most}\", is {}",
                    quoted(text)
                )
            })
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

impl Serialize for CpuQuota {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl NumberOrText for CpuQuota {
    const ALLOWED: &str = "a part of a processor such as \"150%\" or 1.5, in whole hundredths";

    fn from_number(processors: u64) -> Option<Self> {
        Self::from_processors(u32::try_from(processors).ok()?.into())
    }

    fn from_fraction(processors: f64) -> Option<Self> {
        Self::from_processors(processors)
    }
}

impl<'de> Deserialize<'de> for CpuQuota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_text::read(deserializer)
    }
}

impl JsonSchema for CpuQuota {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CpuQuota".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^0*[1-9][0-9]*%$", "description": "a part of one processor" },
                { "type": "number", "minimum": 0.01, "maximum": 1024, "description": "processors" },
            ],
        })
    }
}

impl App {
    /// What the monitor takes at most besides the guest's memory, in bytes, as a control group
    /// counts it.
    ///
    /// 40 MiB for the process, its threads in the kernel and what its file servers hold whatever
    /// the memory; a seventh of the first 4 GiB for the names that the file servers remember
    /// (`devices::virtio::fs::Budget`); and the page tables of the process and of the guest, 8
    /// bytes each for 4 KiB. Whole MiB.
    pub fn overhead_bytes(&self) -> u64 {
        const BASE: u64 = 40 * MIB;
        let memory = self.memory_bytes();
        let names = memory.min(4096 * MIB) / 7;
        let tables = memory / 256;
        // Memory below 2^44 MiB, which `check` holds to, cannot overflow.
        let bytes = BASE.saturating_add(names).saturating_add(tables);
        bytes.div_ceil(MIB).saturating_mul(MIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Memory;

    #[test]
    fn a_quota_is_a_percentage_or_a_number_of_processors() {
        let quota = |text| serde_json::from_str::<CpuQuota>(text).map(CpuQuota::percent);
        assert_eq!(quota("\"150%\"").unwrap(), 150);
        assert_eq!(quota("1.5").unwrap(), 150);
        assert_eq!(quota("2").unwrap(), 200);
        assert_eq!(quota("0.29").unwrap(), 29);
        for text in [
            "0", "0.005", "0.125", "1025", "\"0%\"", "\"150\"", "\"1.5%\"", "\"+5%\"", "-1",
        ] {
            assert!(quota(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_overhead_grows_with_memory() {
        let mut app = App::new("a", vec!["sh".into()]);
        let mib = |app: &App| app.overhead_bytes() / MIB;
        assert_eq!(mib(&app), 78);
        app.memory = Memory::from_mib(16 << 10);
        assert_eq!(mib(&app), 40 + 586 + 64);
    }
}
