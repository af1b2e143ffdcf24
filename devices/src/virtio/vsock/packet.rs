//! The header of each packet (virtio 1.2 §5.10.6), as it lies in guest memory.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct virtio_vsock_hdr`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Header {
    /// Who sends.
    pub src_cid: U64,
    /// Whom to.
    pub dst_cid: U64,
    /// The sender's port.
    pub src_port: U32,
    /// The receiver's port.
    pub dst_port: U32,
    /// Bytes of data behind the header.
    pub len: U32,
    /// Kind of socket: [`STREAM`].
    pub kind: U16,
    /// What is done, `op` below.
    pub op: U16,
    /// Of [`op::SHUTDOWN`]: [`Shutdown`].
    pub flags: U32,
    /// Bytes that the sender has room for, of those it has not passed on (§5.10.6.3).
    pub buf_alloc: U32,
    /// Bytes that the sender has passed on since the connection began, wrapping.
    pub fwd_cnt: U32,
}

/// Bytes of a header.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// `VIRTIO_VSOCK_TYPE_STREAM`.
pub const STREAM: u16 = 1;

/// Operations, §5.10.6.
pub mod op {
    /// A connection is wanted.
    pub const REQUEST: u16 = 1;
    /// It is accepted.
    pub const RESPONSE: u16 = 2;
    /// There is no such connection, or no longer.
    pub const RST: u16 = 3;
    /// The sender will not send, or not receive, any more.
    pub const SHUTDOWN: u16 = 4;
    /// Data.
    pub const RW: u16 = 5;
    /// Room has become free.
    pub const CREDIT_UPDATE: u16 = 6;
    /// How much room is there?
    pub const CREDIT_REQUEST: u16 = 7;
}

bitflags! {
    /// What the sender of a [`op::SHUTDOWN`] will not do any more.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Shutdown: u32 {
        /// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`.
        const RECEIVE = 1;
        /// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`.
        const SEND = 2;
    }
}

impl Header {
    /// The answer to a packet that belongs to no connection (§5.10.6.4.1).
    #[must_use]
    pub fn reset(&self) -> Self {
        Self {
            src_cid: self.dst_cid,
            dst_cid: self.src_cid,
            src_port: self.dst_port,
            dst_port: self.src_port,
            // Of the only kind there is, also where the packet was of another.
            kind: STREAM.into(),
            op: op::RST.into(),
            ..Self::default()
        }
    }
}
