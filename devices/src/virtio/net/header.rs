//! What stands before each frame in a queue, `virtio_net_hdr_v1` (virtio 1.2 §5.1.6), and what of
//! it a driver may say.
//!
//! The host's kernel believes where a header tells it to put a checksum or to cut a frame, so it
//! gets one that was checked here, never the guest's own bytes.

use virtio_bindings::virtio_net as bit;
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a header.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// Offset of `num_buffers` in it.
pub const NUM_BUFFERS: usize = 10;

/// Bytes of an Ethernet header, the least that a frame has.
pub const ETHERNET_BYTES: usize = 14;

/// Bytes that a VLAN's tag adds to a frame.
pub const TAG_BYTES: usize = 4;

/// Bytes of a frame that is still to be cut into several (§5.1.6.3.1, less the header): none is
/// larger.
pub const FRAME_BYTES_MAX: usize = 65_550;

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: U16,
    pub gso_size: U16,
    pub csum_start: U16,
    pub csum_offset: U16,
    pub num_buffers: U16,
}

const NEEDS_CSUM: u8 = bit::VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const GSO_NONE: u8 = bit::VIRTIO_NET_HDR_GSO_NONE as u8;
const GSO_TCPV4: u8 = bit::VIRTIO_NET_HDR_GSO_TCPV4 as u8;
const GSO_TCPV6: u8 = bit::VIRTIO_NET_HDR_GSO_TCPV6 as u8;
const GSO_ECN: u8 = bit::VIRTIO_NET_HDR_GSO_ECN as u8;

/// What a driver's frames may be, by the features that it accepted.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    features: u64,
    /// Bytes of a frame that is sent as it is.
    frame_bytes: usize,
}

impl Rules {
    /// The rules for a driver that accepted `features`, on a link of `mtu` bytes.
    pub fn new(features: u64, mtu: u16) -> Self {
        Self {
            features,
            frame_bytes: usize::from(mtu).saturating_add(ETHERNET_BYTES + TAG_BYTES),
        }
    }

    /// The header for the host of a frame of `bytes` bytes for which the driver wrote `header`;
    /// none if the frame is to be dropped.
    pub fn checked(&self, header: &Header, bytes: usize) -> Option<Header> {
        // Other flags are ignored (§5.1.6.2.2), other types are nothing to work with.
        let sums = header.flags & NEEDS_CSUM != 0;
        let start = usize::from(header.csum_start.get());
        let sum_end = start.saturating_add(usize::from(header.csum_offset.get()) + 2);
        let sum_is_good = !sums || self.accepted(bit::VIRTIO_NET_F_CSUM) && sum_end <= bytes;
        let is_whole = header.gso_type == GSO_NONE;
        let size_is_good = if is_whole {
            (ETHERNET_BYTES..=self.frame_bytes).contains(&bytes)
        } else {
            sums && self.may_cut(header, bytes)
        };
        if !sum_is_good || !size_is_good {
            return None;
        }
        let mut checked = Header::default();
        if sums {
            checked.flags = NEEDS_CSUM;
            checked.csum_start = header.csum_start;
            checked.csum_offset = header.csum_offset;
        }
        if !is_whole {
            checked.gso_type = header.gso_type;
            checked.gso_size = header.gso_size;
            checked.hdr_len = header.hdr_len;
        }
        Some(checked)
    }

    /// Whether the host may cut the frame into several (§5.1.6.2).
    fn may_cut(&self, header: &Header, bytes: usize) -> bool {
        let feature = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 => bit::VIRTIO_NET_F_HOST_TSO4,
            GSO_TCPV6 => bit::VIRTIO_NET_F_HOST_TSO6,
            _ => return false,
        };
        let is_ecn = header.gso_type & GSO_ECN != 0;
        self.accepted(feature)
            && (!is_ecn || self.accepted(bit::VIRTIO_NET_F_HOST_ECN))
            && header.gso_size.get() != 0
            && usize::from(header.hdr_len.get()) <= bytes
            && (ETHERNET_BYTES..=FRAME_BYTES_MAX).contains(&bytes)
    }

    fn accepted(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1500;
    const ALL: u64 = u64::MAX;

    fn sum(start: u16, offset: u16) -> Header {
        Header {
            flags: 1,
            csum_start: start.into(),
            csum_offset: offset.into(),
            ..Header::default()
        }
    }

    fn cut(gso_type: u8, gso_size: u16, hdr_len: u16) -> Header {
        Header {
            gso_type,
            gso_size: gso_size.into(),
            hdr_len: hdr_len.into(),
            ..sum(34, 16)
        }
    }

    fn passes(features: u64, header: Header, bytes: usize) -> bool {
        Rules::new(features, MTU).checked(&header, bytes).is_some()
    }

    #[test]
    fn a_plain_frame_fits_the_link() {
        for (bytes, good) in [
            (0, false),
            (13, false),
            (14, true),
            (1518, true),
            (1519, false),
            (65_550, false),
            (1 << 20, false),
        ] {
            assert_eq!(passes(0, Header::default(), bytes), good, "{bytes}");
        }
    }

    #[test]
    fn a_checksum_lies_in_its_frame() {
        for (header, bytes, good) in [
            (sum(34, 16), 60, true),
            (sum(34, 16), 52, true),
            (sum(34, 16), 51, false),
            (sum(u16::MAX, u16::MAX), 1514, false),
            (sum(0, 0), 14, true),
        ] {
            assert_eq!(passes(ALL, header, bytes), good, "{header:?}");
        }
        assert!(!passes(0, sum(34, 16), 60));
    }

    #[test]
    fn a_frame_that_is_to_be_cut_says_how() {
        for (header, bytes, good) in [
            (cut(1, 1448, 66), 65_550, true),
            (cut(4, 1428, 86), 65_550, true),
            (cut(0x81, 1448, 66), 9000, true),
            (cut(1, 1448, 66), 65_551, false),
            (cut(1, 0, 66), 9000, false),
            (cut(1, 1448, 9001), 9000, false),
            (cut(3, 1448, 66), 9000, false),
            (cut(5, 1448, 66), 9000, false),
            (cut(0xff, 1448, 66), 9000, false),
            (cut(0x80, 1448, 66), 9000, false),
        ] {
            assert_eq!(passes(ALL, header, bytes), good, "{header:?}");
        }
    }

    #[test]
    fn what_was_not_negotiated_is_not_done() {
        for (left_out, header) in [
            (bit::VIRTIO_NET_F_CSUM, cut(1, 1448, 66)),
            (bit::VIRTIO_NET_F_HOST_TSO4, cut(1, 1448, 66)),
            (bit::VIRTIO_NET_F_HOST_TSO6, cut(4, 1448, 66)),
            (bit::VIRTIO_NET_F_HOST_ECN, cut(0x81, 1448, 66)),
        ] {
            assert!(passes(ALL, header, 9000));
            assert!(!passes(ALL & !(1 << left_out), header, 9000), "{header:?}");
        }
        let without_sum = Header {
            flags: 0,
            ..cut(1, 1448, 66)
        };
        assert!(!passes(ALL, without_sum, 9000));
    }

    #[test]
    fn the_host_gets_nothing_but_what_was_checked() {
        let header = Header {
            flags: 0xfe,
            hdr_len: 9.into(),
            gso_size: 9.into(),
            csum_start: u16::MAX.into(),
            csum_offset: 9.into(),
            num_buffers: 9.into(),
            ..Header::default()
        };
        let checked = Rules::new(ALL, MTU).checked(&header, 60).unwrap();
        assert_eq!(checked.as_bytes(), [0; HEADER_BYTES]);
    }
}
