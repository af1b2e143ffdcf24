//! Section `rateLimit` of a device: how fast it may be used.

use std::num::NonZeroU64;

use devices::virtio::rate_limiter;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Bytes, count};

/// How fast a device may be used. The monitor keeps it, so it needs neither root nor control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Bytes in a second, such as "10M".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub bytes_per_second: Option<Bytes>,
    /// Requests in a second.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "operations"
    )]
    #[schemars(with = "u32", range(min = 1))]
    pub ops_per_second: Option<u32>,
    /// Bytes at once after a pause. By default a tenth of a second's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Bytes")]
    pub burst: Option<Bytes>,
}

fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    count::number(deserializer, format_args!("a whole number from 1")).map(Some)
}

impl Rate {
    /// The same, for the device. Nothing at all is no limit; [`super::App::check`] complains of it.
    pub fn of_device(&self) -> rate_limiter::Rate {
        let bytes = |bytes: Option<Bytes>| bytes.and_then(|bytes| NonZeroU64::new(bytes.get()));
        rate_limiter::Rate {
            bytes_per_second: bytes(self.bytes_per_second),
            ops_per_second: self
                .ops_per_second
                .and_then(|ops| NonZeroU64::new(ops.into())),
            burst_bytes: bytes(self.burst),
        }
    }
}
