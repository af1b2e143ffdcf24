//! A network between machines of one user: a switch, whose ports are stream sockets.
//!
//! ```text
//! machine ── its card ── stream of frames ──┐
//! machine ── its card ── stream of frames ──┤ Server: sockets, queues      Fabric: who gets a frame
//! machine ── its card ── stream of frames ──┘ ............................ host .1: ARP, ping, names
//! ```
//!
//! Who joins says its name and its card's address, and is told its own address of the network
//! ([`hello`]). [`fabric`] is the logic, without sockets; [`server`] moves the bytes.
//!
//! Frames come from hostile guests: each is checked against what its sender was told, a machine
//! that does not read loses frames and holds up nobody, and each table has a limit. It carries IPv4
//! and ARP; there is no way out.
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test that panics has failed, which is what it is for"
    )
)]

mod addresses;
pub mod fabric;
mod frame;
mod framing;
pub mod hello;
mod host;
mod names;
pub mod server;

/// The address of a card.
pub type Mac = [u8; 6];

/// The largest packet of a network, in bytes: as with passt, a large one stands in for the offloads
/// that a stream of frames lacks.
pub const MTU: u16 = 65_520;
