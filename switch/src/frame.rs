//! A frame of a machine's: what it is, and whether that machine may send it.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpPacketSlice, EtherType, Ethernet2Slice, Ipv4HeaderSlice};

use crate::{MTU, Mac};

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// Bytes of the largest frame. [`MTU`] is below what `usize` holds.
pub const FRAME_BYTES_MAX: usize = MTU as usize + ETHERNET_BYTES;

/// To all machines.
pub const BROADCAST: Mac = [0xff; 6];

/// A frame that its sender may send.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Which card it is for.
    pub to: Mac,
    /// What is in it.
    pub content: Content<'a>,
}

/// What is in a frame.
#[derive(Debug)]
pub enum Content<'a> {
    /// A question or answer about addresses.
    Arp(ArpEthIpv4Packet),
    /// A packet, from its header on.
    Ipv4(&'a [u8]),
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short or long, or not what it says that it is.
    Malformed,
    /// From an address that its machine does not have.
    Spoofed,
    /// Of a protocol that the network does not carry.
    Foreign,
}

impl<'a> Frame<'a> {
    /// Looks at a frame from the machine with these addresses.
    ///
    /// # Errors
    /// It goes nowhere.
    pub fn check(bytes: &'a [u8], mac: Mac, address: Ipv4Addr) -> Result<Self, Refusal> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let ethernet =
            Ethernet2Slice::from_slice_without_fcs(bytes).map_err(|_| Refusal::Malformed)?;
        if ethernet.source() != mac {
            return Err(Refusal::Spoofed);
        }
        let payload = ethernet.payload_slice();
        let content = match ethernet.ether_type() {
            EtherType::ARP => Content::Arp(checked_arp(payload, mac, address)?),
            EtherType::IPV4 => Content::Ipv4(checked_ipv4(payload, address)?),
            _ => return Err(Refusal::Foreign),
        };
        let to = ethernet.destination();
        Ok(Self { to, content })
    }
}

/// Whether a card's address is that of several: a group, or all.
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

fn checked_arp(payload: &[u8], mac: Mac, address: Ipv4Addr) -> Result<ArpEthIpv4Packet, Refusal> {
    let packet = ArpPacketSlice::from_slice(payload).map_err(|_| Refusal::Malformed)?;
    let arp = packet
        .to_packet()
        .try_eth_ipv4()
        .map_err(|_| Refusal::Malformed)?;
    let sender = arp.sender_ipv4_addr();
    // A probe has no sender's address yet (RFC 5227 §2.1.1).
    let is_own = sender == address || sender.is_unspecified();
    if arp.sender_mac != mac || !is_own {
        return Err(Refusal::Spoofed);
    }
    Ok(arp)
}

fn checked_ipv4(payload: &[u8], address: Ipv4Addr) -> Result<&[u8], Refusal> {
    let header = Ipv4HeaderSlice::from_slice(payload).map_err(|_| Refusal::Malformed)?;
    let is_whole = usize::from(header.total_len()) <= payload.len();
    if !is_whole || header.payload_len().is_err() {
        return Err(Refusal::Malformed);
    }
    if header.source_addr() != address {
        return Err(Refusal::Spoofed);
    }
    Ok(payload)
}
