//! Frames of machines that do what they should, and of those that do not.

use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, PacketBuilder};
use proptest::prelude::*;

use super::*;
use crate::frame::{BROADCAST, FRAME_BYTES_MAX};

/// Ports, which are also the last byte of their machine's card.
const WEB: Port = 1;
const DB: Port = 2;
const CACHE: Port = 3;

fn mac(port: Port) -> Mac {
    [2, 0, 0, 0, 0, port as u8]
}

fn wish(port: Port, name: &str) -> Join {
    Join {
        version: VERSION,
        name: name.into(),
        aliases: vec![format!("{name}.example")],
        mac: mac(port),
        address: None,
    }
}

/// A network of three, and their addresses by their ports.
fn network() -> (Fabric, impl Fn(Port) -> Ipv4Addr) {
    let mut fabric = Fabric::new("shop");
    let names = [(WEB, "web"), (DB, "db"), (CACHE, "cache")];
    let addresses = names.map(|(port, name)| fabric.join(port, wish(port, name)).unwrap().address);
    (fabric, move |port: Port| addresses[port as usize - 1])
}

fn frame(from: Mac, to: Mac, kind: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: from,
        destination: to,
        ether_type: kind,
    };
    [&header.to_bytes()[..], payload].concat()
}

/// A datagram from `from` to `to`.
fn datagram(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, to.0)
        .ipv4(from.1.octets(), to.1.octets(), 64)
        .udp(4000, port)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn arp(operation: ArpOperation, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: from.0,
        sender_ipv4: from.1.octets(),
        target_mac: to.0,
        target_ipv4: to.1.octets(),
    };
    frame(from.0, to.0, EtherType::ARP, &packet.to_bytes())
}

/// What was counted of one frame that goes nowhere.
fn dropped(fabric: &mut Fabric, port: Port, frame: &[u8]) -> Counters {
    fabric.counters = Counters::default();
    assert_eq!(fabric.pass(port, frame), Verdict::Drop);
    fabric.counters
}

#[test]
fn a_frame_goes_to_whom_it_is_for() {
    let (mut fabric, address) = network();
    let all = Ipv4Addr::BROADCAST;
    let [web, db] = [WEB, DB].map(|port| (mac(port), address(port)));
    for (to, verdict) in [
        (db, Verdict::Deliver(DB)),
        ((BROADCAST, all), Verdict::Flood),
        (
            ([1, 0, 0x5e, 0, 0, 0xfb], Ipv4Addr::new(224, 0, 0, 251)),
            Verdict::Flood,
        ),
    ] {
        assert_eq!(fabric.pass(WEB, &datagram(web, to, 9, b"words")), verdict);
        assert_eq!(
            fabric.pass(WEB, &arp(ArpOperation::REQUEST, web, to)),
            verdict
        );
    }
    let others: Vec<_> = fabric.others(WEB).collect();
    assert_eq!(others, [DB, CACHE]);
    // To itself, to nobody, and from a port without a machine.
    for to in [web, (mac(9), address(DB))] {
        let counters = dropped(&mut fabric, WEB, &datagram(web, to, 9, b""));
        assert_eq!(counters.unknown, 1);
    }
    assert_eq!(fabric.pass(77, &datagram(web, db, 9, b"")), Verdict::Drop);
}

#[test]
fn what_a_machine_says_under_a_false_address_goes_nowhere() {
    let (mut fabric, address) = network();
    let [web, db, cache] = [WEB, DB, CACHE].map(|port| (mac(port), address(port)));
    let (host, elsewhere) = (fabric.subnet.host(), Ipv4Addr::new(8, 8, 8, 8));
    let question = ArpOperation::REQUEST;
    // A false card, a false address in a packet, and each of them in ARP.
    for frame in [
        datagram(db, cache, 9, b""),
        datagram((db.0, web.1), cache, 9, b""),
        datagram((BROADCAST, web.1), cache, 9, b""),
        datagram((web.0, db.1), cache, 9, b""),
        datagram((web.0, host), cache, 9, b""),
        datagram((web.0, elsewhere), cache, 9, b""),
        datagram((web.0, Ipv4Addr::UNSPECIFIED), cache, 9, b""),
        datagram(
            (web.0, Ipv4Addr::UNSPECIFIED),
            (BROADCAST, Ipv4Addr::BROADCAST),
            67,
            b"",
        ),
        arp(ArpOperation::REPLY, (web.0, db.1), cache),
        arp(ArpOperation::REPLY, (web.0, host), (BROADCAST, cache.1)),
        arp(question, (web.0, db.1), (BROADCAST, db.1)),
        frame(
            web.0,
            cache.0,
            EtherType::ARP,
            &arp(question, db, cache)[14..],
        ),
        frame(
            web.0,
            BROADCAST,
            EtherType::ARP,
            &arp(question, (db.0, web.1), cache)[14..],
        ),
    ] {
        let counters = dropped(&mut fabric, WEB, &frame);
        assert_eq!(counters.spoofed, 1, "{frame:02x?}");
    }
    // A probe asks without an address.
    let probe = arp(question, (web.0, Ipv4Addr::UNSPECIFIED), (BROADCAST, db.1));
    assert_eq!(fabric.pass(WEB, &probe), Verdict::Flood);
}

#[test]
fn frames_that_are_none_are_counted() {
    let (mut fabric, address) = network();
    let [web, db] = [WEB, DB].map(|port| (mac(port), address(port)));
    let good = datagram(web, db, 9, b"words");
    let changed = |place: usize, byte: u8| {
        let mut frame = good.clone();
        frame[place] = byte;
        frame
    };
    let asked = arp(ArpOperation::REQUEST, web, db);
    let changed_arp = |place: usize, byte: u8| {
        let mut frame = asked.clone();
        frame[place] = byte;
        frame
    };
    for frame in [
        Vec::new(),
        vec![0; 13],
        good[..14].to_vec(),
        good[..33].to_vec(),
        // Shorter than it says, of another version, with a header that is shorter than its own or
        // longer than the packet.
        good[..good.len() - 1].to_vec(),
        changed(14, 0x65),
        changed(14, 0x44),
        changed(14, 0x4f),
        changed(17, 3),
        [&good[..], &vec![0; FRAME_BYTES_MAX]].concat(),
        // ARP of something else, with addresses of other lengths, cut off.
        changed_arp(15, 6),
        changed_arp(16, 0x86),
        changed_arp(18, 255),
        changed_arp(19, 255),
        changed_arp(18, 5),
        asked[..asked.len() - 1].to_vec(),
    ] {
        let counters = dropped(&mut fabric, WEB, &frame);
        assert_eq!(
            counters.malformed,
            1,
            "{:02x?}",
            &frame[..frame.len().min(60)]
        );
    }
    // IPv6, a VLAN's tag, a length in place of a protocol.
    for kind in [0x86dd, 0x8100, 0x88a8, 60, 0] {
        let frame = frame(web.0, db.0, EtherType(kind), &good[14..]);
        assert_eq!(dropped(&mut fabric, WEB, &frame).foreign, 1, "{kind:x}");
    }
    // The largest one passes.
    let largest = datagram(web, db, 9, &vec![7; usize::from(MTU) - 28]);
    assert_eq!(largest.len(), FRAME_BYTES_MAX);
    assert_eq!(fabric.pass(WEB, &largest), Verdict::Deliver(DB));
}

fn answered(fabric: &mut Fabric, frame: &[u8]) -> Vec<u8> {
    match fabric.pass(WEB, frame) {
        Verdict::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_switch_answers_who_looks_for_it_and_pings_it() {
    let (mut fabric, address) = network();
    let (web, host) = ((mac(WEB), address(WEB)), (host::MAC, fabric.subnet.host()));
    let asked = arp(ArpOperation::REQUEST, web, (BROADCAST, host.1));
    let answer = answered(&mut fabric, &asked);
    assert_eq!(answer, arp(ArpOperation::REPLY, host, web));
    let ping = |size: usize| {
        let mut frame = Vec::new();
        let builder =
            PacketBuilder::ethernet2(web.0, host.0).ipv4(web.1.octets(), host.1.octets(), 9);
        builder
            .icmpv4_echo_request(5, 6)
            .write(&mut frame, &vec![7; size])
            .unwrap();
        frame
    };
    for size in [0, 56, usize::from(MTU) - 28] {
        let mut expected = Vec::new();
        let builder =
            PacketBuilder::ethernet2(host.0, web.0).ipv4(host.1.octets(), web.1.octets(), 64);
        builder
            .icmpv4_echo_reply(5, 6)
            .write(&mut expected, &vec![7; size])
            .unwrap();
        assert_eq!(answered(&mut fabric, &ping(size)), expected);
    }
    // To its card, but not to its address; in fragments; to no service; to all.
    let mut fragment = ping(56);
    fragment[20] = 0x20;
    for frame in [
        datagram(web, (host.0, address(DB)), 53, b""),
        datagram(web, host, 54, b""),
        datagram(web, host, 53, b""),
        fragment,
        arp(ArpOperation::REPLY, web, host),
        arp(ArpOperation::REQUEST, web, (host.0, address(DB))),
    ] {
        assert_eq!(dropped(&mut fabric, WEB, &frame).answered, 1);
    }
}

#[test]
fn the_switch_answers_who_asks_for_a_name() {
    let (mut fabric, address) = network();
    let (web, host) = ((mac(WEB), address(WEB)), (host::MAC, fabric.subnet.host()));
    // RFC 1035 §4.1: "db", A, IN.
    let query = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x02db\0\0\x01\0\x01";
    let answer = answered(&mut fabric, &datagram(web, host, 53, query));
    let packet = etherparse::SlicedPacket::from_ethernet(&answer).unwrap();
    let Some(etherparse::TransportSlice::Udp(datagram)) = packet.transport else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (datagram.source_port(), datagram.destination_port()),
        (53, 4000)
    );
    assert!(datagram.payload().ends_with(&address(DB).octets()));
    assert_eq!(datagram.payload()[..2], *b"\x12\x34");
}

#[test]
fn who_has_left_gets_nothing_and_its_place_is_free() {
    let (mut fabric, address) = network();
    let [web, db] = [WEB, DB].map(|port| (mac(port), address(port)));
    fabric.leave(DB);
    let frame = datagram(web, db, 9, b"");
    assert_eq!(dropped(&mut fabric, WEB, &frame).unknown, 1);
    assert_eq!(fabric.port_of("db"), None);
    let welcome = fabric.join(7, wish(DB, "db")).unwrap();
    assert_eq!(welcome.address, db.1);
    assert_eq!(fabric.pass(WEB, &frame), Verdict::Deliver(7));
    let told = fabric.told();
    let names: Vec<_> = told.members.iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["cache", "db", "web"]);
    assert!(told.subnet.ends_with(".0/24"), "{}", told.subnet);
}

#[test]
fn a_card_is_at_one_port() {
    let (mut fabric, _) = network();
    for (mac, other) in [
        (mac(DB), "02:00:00:00:00:02"),
        (host::MAC, "02:6d:76:6d:ff:01"),
        ([1; 6], "01:01:01:01:01:01"),
    ] {
        let join = Join {
            mac,
            ..wish(9, "late")
        };
        let error = fabric.join(9, join).unwrap_err();
        assert_eq!(error, format!("{other} is not this card's alone"));
    }
    let join = Join {
        version: 2,
        ..wish(9, "late")
    };
    assert!(
        fabric
            .join(9, join)
            .unwrap_err()
            .contains("another version")
    );
    assert_eq!(fabric.port_of("late"), None);
}

proptest! {
    #[test]
    fn no_frame_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut fabric, _) = network();
        prop_assert_eq!(fabric.pass(WEB, &bytes), Verdict::Drop);
    }

    /// Whatever a machine sends, who gets it sees its card and its address in it.
    #[test]
    fn frames_that_pass_are_from_whom_they_say(
        kind in 0..3usize,
        changes in prop::collection::vec((0..60usize, any::<u8>()), 0..8),
    ) {
        let (mut fabric, address) = network();
        let [web, db] = [WEB, DB].map(|port| (mac(port), address(port)));
        let mut frame = [
            datagram(web, db, 9, b"words and more words"),
            arp(ArpOperation::REQUEST, web, (BROADCAST, db.1)),
            datagram(web, (host::MAC, fabric.subnet.host()), 53, &[0; 30]),
        ][kind].clone();
        for (place, byte) in changes {
            if let Some(old) = frame.get_mut(place) {
                *old = byte;
            }
        }
        match fabric.pass(WEB, &frame) {
            Verdict::Drop => {}
            Verdict::Answer(answer) => prop_assert_eq!(&answer[..6], &web.0),
            Verdict::Deliver(_) | Verdict::Flood => {
                prop_assert_eq!(&frame[6..12], &web.0);
                let sender = if frame[12..14] == [8, 0] { &frame[26..30] } else { &frame[28..32] };
                prop_assert!(sender == web.1.octets() || sender == [0; 4]);
            }
        }
    }
}
