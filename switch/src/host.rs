//! The switch as a host of its network: it says where it is, answers pings, and knows names.
//!
//! It keeps nothing of who asks: an answer goes back to the machine that the question came from.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv4Slice, Icmpv4Type, IpNumber,
    Ipv4Slice, PacketBuilder, UdpSlice,
};

use crate::Mac;
use crate::frame::{BROADCAST, Content, Frame};
use crate::names::Names;

/// Its card's address; locally administered, and none that is made from a machine's name but by one
/// chance in 2^40.
pub const MAC: Mac = [0x02, 0x6d, 0x76, 0x6d, 0xff, 0x01];

/// Where names are asked for.
const DOMAIN: u16 = 53;

/// Switches on an answer's way.
const TTL: u8 = 64;

/// Who has sent a frame.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    pub mac: Mac,
    pub address: Ipv4Addr,
}

/// Whether the switch, at `address`, is who the frame is for, and nobody else.
pub fn is_for(frame: &Frame<'_>, address: Ipv4Addr) -> bool {
    let asks = match &frame.content {
        Content::Arp(arp) => arp.target_ipv4_addr() == address,
        Content::Ipv4(_) => false,
    };
    frame.to == MAC || frame.to == BROADCAST && asks
}

/// The frame that answers one which is for the switch at `address`, if it asks for something.
pub fn answer(
    frame: &Frame<'_>,
    sender: Sender,
    address: Ipv4Addr,
    names: &mut Names,
) -> Option<Vec<u8>> {
    match &frame.content {
        Content::Arp(arp) => answer_arp(arp, sender, address),
        Content::Ipv4(packet) => answer_ipv4(packet, sender, address, names),
    }
}

fn answer_arp(arp: &ArpEthIpv4Packet, sender: Sender, address: Ipv4Addr) -> Option<Vec<u8>> {
    let is_question = arp.operation == ArpOperation::REQUEST && arp.target_ipv4_addr() == address;
    if !is_question {
        return None;
    }
    let header = Ethernet2Header {
        source: MAC,
        destination: sender.mac,
        ether_type: EtherType::ARP,
    };
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: MAC,
        sender_ipv4: address.octets(),
        target_mac: sender.mac,
        target_ipv4: arp.sender_ipv4,
    };
    Some([&header.to_bytes()[..], &reply.to_bytes()].concat())
}

fn answer_ipv4(
    packet: &[u8],
    sender: Sender,
    address: Ipv4Addr,
    names: &mut Names,
) -> Option<Vec<u8>> {
    let packet = Ipv4Slice::from_slice(packet).ok()?;
    let payload = packet.payload();
    if packet.header().destination_addr() != address || payload.fragmented {
        return None;
    }
    let builder = PacketBuilder::ethernet2(MAC, sender.mac).ipv4(
        address.octets(),
        sender.address.octets(),
        TTL,
    );
    let mut frame = Vec::new();
    match payload.ip_number {
        IpNumber::ICMP => {
            let message = Icmpv4Slice::from_slice(payload.payload).ok()?;
            let Icmpv4Type::EchoRequest(echo) = message.icmp_type() else {
                return None;
            };
            let builder = builder.icmpv4_echo_reply(echo.id, echo.seq);
            builder.write(&mut frame, message.payload()).ok()?;
        }
        IpNumber::UDP => {
            let datagram = UdpSlice::from_slice(payload.payload).ok()?;
            if datagram.destination_port() != DOMAIN {
                return None;
            }
            let answer = names.answer(datagram.payload())?;
            let builder = builder.udp(DOMAIN, datagram.source_port());
            builder.write(&mut frame, &answer).ok()?;
        }
        _ => return None,
    }
    Some(frame)
}
