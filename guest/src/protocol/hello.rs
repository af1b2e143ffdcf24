//! The first message of each side.
//!
//! The one thing to know: magic and version stand first in every version of the protocol.

use anyhow::{Result, ensure};

use super::decode::{end, split};
use super::{Side, VERSION};

/// First bytes of a [`Hello`]; whatever else is at the other end of the port does not send them.
const MAGIC: [u8; 4] = *b"mvm\0";

/// The first message of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub side: Side,
    /// When the guest's init started, in µs of its `CLOCK_BOOTTIME`; 0 from the host.
    pub started_us: u64,
    /// When this was sent, in µs of the same clock; 0 from the host.
    pub sent_us: u64,
}

impl Hello {
    const SIZE: usize = 28;

    pub(super) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&u32::from(self.side == Side::Guest).to_le_bytes());
        bytes[12..20].copy_from_slice(&self.started_us.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.sent_us.to_le_bytes());
        bytes
    }

    /// Magic and version stand first in every version, so that the message about a mismatch is
    /// right even if the rest has changed.
    pub(super) fn decode(payload: &[u8], from: Side) -> Result<Self> {
        let (magic, rest) = split(payload)?;
        ensure!(
            magic == MAGIC,
            "the other end does not speak mvm's protocol"
        );
        let (version, rest) = split(rest)?;
        let version = u32::from_le_bytes(version);
        ensure!(
            version == VERSION,
            "the other end speaks version {version} of the protocol, this program speaks {VERSION}"
        );
        let (side, rest) = split(rest)?;
        let (started_us, rest) = split(rest)?;
        let (sent_us, rest) = split(rest)?;
        end(rest)?;
        ensure!(
            u32::from_le_bytes(side) == u32::from(from == Side::Guest),
            "the other end of the connection is on the same side"
        );
        Ok(Self {
            side: from,
            started_us: u64::from_le_bytes(started_us),
            sent_us: u64::from_le_bytes(sent_us),
        })
    }
}
