//! A card on a stream, against a driver and a host that are slow, gone, or malicious.

mod rejoin;
mod throttle;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use virtio_bindings::virtio_net as bit;

use super::{Config, Counters, Stream};
use crate::virtio::fake::{Card, Driver, HOLE};
use crate::virtio::rate_limiter::Rate;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const MTU: u16 = 65_520;
const ALL: u64 = u64::MAX;
const MERGEABLE: u64 = 1 << bit::VIRTIO_NET_F_MRG_RXBUF;

/// What a driver posts, given some pages.
type Post = fn(&mut Card, u64);

/// A card at rest, and the host's end of its stream.
fn resting_card() -> (Card, UnixStream) {
    let (card, host, _) = counted_card(None);
    (card, host)
}

/// The same, with what it counts, and a rate where it has one.
fn counted_card(rate: Option<Rate>) -> (Card, UnixStream, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let (stream, host) = UnixStream::pair().unwrap();
    let driver = Driver::attach(|memory| {
        let config = Config {
            name: "net".into(),
            mac: [2, 3, 4, 5, 6, 7],
            mtu: MTU,
            backend: Box::new(Stream::new(stream).unwrap()),
            counters: Arc::clone(&counters),
            rate,
        };
        config.open(memory).unwrap()
    });
    (Card::new(driver), host, counters)
}

/// A card that Linux has started.
fn card() -> (Card, UnixStream) {
    let (mut card, host) = resting_card();
    card.open(ALL);
    (card, host)
}

/// Bytes that repeat nowhere near a page or a buffer.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n * n % 251) as u8).collect()
}

fn say(host: &mut UnixStream, frame: &[u8]) {
    host.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
    host.write_all(frame).unwrap();
}

fn hear(host: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    host.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    host.read_exact(&mut frame).unwrap();
    frame
}

/// The card still works both ways.
fn assert_alive(card: &mut Card, host: &mut UnixStream) {
    card.send(&pattern(60));
    assert_eq!(hear(host), pattern(60));
    say(host, &pattern(70));
    assert_eq!(card.receive().1, pattern(70));
}

#[test]
fn frames_and_buffers_where_the_card_does_not_reach_are_dropped() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    let header = card.driver.page();
    for frame in [&[(HOLE, 72)][..], &[(header, 40), (HOLE, 32)]] {
        card.driver.submit(TRANSMIT, frame, &[]);
        assert_eq!(card.driver.completed(TRANSMIT).written_bytes, 0);
    }
    for _ in 0..8 {
        card.driver.submit(RECEIVE, &[], &[(HOLE - 8, 4096)]);
    }
    say(&mut host, &pattern(60));
    for _ in 0..8 {
        assert_eq!(card.driver.completed(RECEIVE).written_bytes, 0);
    }
    let page = card.driver.page();
    card.driver.submit(RECEIVE, &[], &[(page, 4096)]);
    assert_eq!(card.driver.completed(RECEIVE).written_bytes, 72);
    assert_eq!(card.driver.read(page + 12, 60), pattern(60));
    card.send(&pattern(60));
    assert_eq!(hear(&mut host), pattern(60));
}

fn config(card: &Card) -> Vec<u8> {
    let mut space = vec![0; 12];
    card.driver.mmio.read(0x100, &mut space);
    space
}

#[test]
fn frames_of_any_size_go_both_ways() {
    let (mut card, mut host) = card();
    for bytes in [14, 60, 1514, 4084, 4085, 9014, 65_534] {
        let frame = pattern(bytes);
        card.send(&frame);
        assert_eq!(hear(&mut host), frame);
        say(&mut host, &frame);
        let (header, received, buffers) = card.receive();
        assert_eq!(received, frame);
        assert_eq!(usize::from(buffers), (bytes + 12).div_ceil(4096));
        assert_eq!(header[..10], [0; 10]);
    }
}

#[test]
fn many_frames_in_one_write_come_apart_again() {
    let (mut card, mut host) = card();
    let sizes: Vec<usize> = (0..200).map(|n| 14 + n * 37 % 1500).collect();
    let mut bytes = Vec::new();
    for size in &sizes {
        bytes.extend((*size as u32).to_be_bytes());
        bytes.extend(pattern(*size));
    }
    let writer = thread::spawn(move || {
        // Cut where no frame is.
        for piece in bytes.chunks(1009) {
            host.write_all(piece).unwrap();
        }
        host
    });
    for size in sizes {
        assert_eq!(card.receive().1, pattern(size));
    }
    assert_alive(&mut card, &mut writer.join().unwrap());
}

#[test]
fn frames_that_came_together_wait_for_buffers_together() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    // All in one read, and nothing behind them that would wake the card.
    let sizes: Vec<usize> = (0..100).map(|n| 14 + n * 37 % 300).collect();
    let frames = sizes.iter().map(|size| {
        let length = (*size as u32).to_be_bytes();
        [&length[..], &pattern(*size)].concat()
    });
    let bytes = frames.collect::<Vec<_>>().concat();
    host.write_all(&bytes).unwrap();
    let page = card.driver.page();
    for size in sizes {
        card.driver.submit(RECEIVE, &[], &[(page, 4096)]);
        let used = card.driver.completed(RECEIVE);
        let received = card.driver.read(page + 12, size);
        assert_eq!(used.written_bytes as usize, size + 12);
        assert_eq!(received, pattern(size));
    }
}

#[test]
fn more_frames_than_one_event_serves_arrive_by_themselves() {
    let (mut card, mut host) = card();
    let frame = [&14u32.to_be_bytes()[..], &pattern(14)].concat();
    // And such as are thrown away between them.
    let none = 0u32.to_be_bytes();
    let bytes = [none.repeat(1000), frame.repeat(1000)].concat();
    assert!(bytes.len() < 32 << 10);
    host.write_all(&bytes).unwrap();
    for _ in 0..1000 {
        assert_eq!(card.receive().1, pattern(14));
    }
    assert_alive(&mut card, &mut host);
}

#[test]
fn what_came_ahead_outlives_a_reset() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    let page = card.driver.page();
    for bytes in [5000, 100, 70] {
        say(&mut host, &pattern(bytes));
    }
    // The first one's beginning is there, and all the others with it.
    card.driver.submit(RECEIVE, &[], &[(page, 100)]);
    card.send(&pattern(60));
    card.open(ALL);
    let mut frames = vec![card.receive().1];
    while frames.last() != Some(&pattern(70)) {
        frames.push(card.receive().1);
    }
    assert!(frames.ends_with(&[pattern(100), pattern(70)]));
}

#[test]
fn what_went_through_is_counted_and_nothing_else() {
    let (mut card, mut host, counters) = counted_card(None);
    card.open(ALL);
    for bytes in [60, 9000] {
        card.send(&pattern(bytes));
        assert_eq!(hear(&mut host), pattern(bytes));
        say(&mut host, &pattern(bytes + 10));
        assert_eq!(card.receive().1, pattern(bytes + 10));
    }
    // A frame that is none, from either side.
    card.send(&pattern(13));
    say(&mut host, &pattern(13));
    assert_alive(&mut card, &mut host);
    // A reset waits for the worker: what it would count it has counted.
    card.driver.reset();
    let sent = (counters.sent_bytes(), counters.sent_packets());
    assert_eq!(sent, (60 + 9000 + 60, 3));
    let received = (counters.received_bytes(), counters.received_packets());
    assert_eq!(received, (70 + 9010 + 70, 3));
}

#[test]
fn the_driver_reads_address_link_and_mtu() {
    let (card, _host) = card();
    assert_eq!(config(&card), [2, 3, 4, 5, 6, 7, 1, 0, 1, 0, 0xf0, 0xff]);
}

#[test]
fn no_offload_is_offered_that_a_stream_cannot_carry() {
    let (mut card, _host) = resting_card();
    let own = card.driver.offered_features() & 0xff_ffff;
    assert_eq!(own, 1 << 3 | 1 << 5 | 1 << 15 | 1 << 16);
}

#[test]
fn a_host_that_is_slow_gets_every_frame_whole() {
    let (mut card, mut host) = card();
    // More than the socket takes; each lies in pages of its own until it has gone.
    let first = card.driver.pages(16);
    card.driver.write(first, &[0; 12]);
    card.driver.write(first + 12, &pattern(60_000));
    for _ in 0..100 {
        card.driver.submit(TRANSMIT, &[(first, 60_012)], &[]);
    }
    for _ in 0..100 {
        assert_eq!(hear(&mut host), pattern(60_000));
    }
    for _ in 0..100 {
        card.driver.completed(TRANSMIT);
    }
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_guest_without_buffers_gets_its_frames_later() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    for bytes in [60, 9000, 70] {
        say(&mut host, &pattern(bytes));
    }
    card.send(&pattern(20));
    assert_eq!(hear(&mut host), pattern(20));
    let page = card.driver.pages(4);
    card.driver.submit(RECEIVE, &[], &[(page, 72)]);
    assert_eq!(card.driver.completed(RECEIVE).written_bytes, 72);
    // Too little for the next, which waits for more.
    card.driver.submit(RECEIVE, &[], &[(page, 9000)]);
    card.send(&pattern(20));
    assert_eq!(card.driver.used_index(RECEIVE), 1);
    card.driver.submit(RECEIVE, &[], &[(page + 9000, 100)]);
    assert_eq!(card.driver.completed(RECEIVE).written_bytes, 9000);
    assert_eq!(card.driver.completed(RECEIVE).written_bytes, 12);
    assert_eq!(card.driver.read(page + 10, 2), [2, 0]);
    assert_eq!(card.driver.read(page + 12, 8988), pattern(8988));
}

#[test]
fn one_buffer_for_each_frame_where_they_are_not_merged() {
    let (mut card, mut host) = resting_card();
    card.open(!MERGEABLE & !(1 << bit::VIRTIO_NET_F_MTU));
    say(&mut host, &pattern(1514));
    // More than the driver expects without an MTU.
    say(&mut host, &pattern(1515));
    say(&mut host, &pattern(60));
    let (header, frame, _) = card.receive();
    assert_eq!((header[10], frame), (1, pattern(1514)));
    assert_eq!(card.receive().1, pattern(60));
}

#[test]
fn frames_that_are_none_are_dropped() {
    let (mut card, mut host) = card();
    let page = card.driver.pages(17);
    card.driver.write(page, &[0; 12]);
    for bytes in [0, 11, 12, 25, 65_563, 69_632] {
        card.driver.submit(TRANSMIT, &[(page, bytes)], &[]);
        assert_eq!(card.driver.completed(TRANSMIT).written_bytes, 0);
    }
    // 16 KiB again and again, through one page: no frame of a MiB leaves.
    let pieces: Vec<_> = (0..64).map(|_| (page, 16_384)).collect();
    card.driver.submit(TRANSMIT, &pieces, &[]);
    card.driver.completed(TRANSMIT);
    // Nothing to read at all.
    card.driver.submit(TRANSMIT, &[], &[(page, 100)]);
    assert_eq!(card.driver.completed(TRANSMIT).written_bytes, 0);
    for bytes in [0, 13, 65_539, 65_550] {
        say(&mut host, &pattern(bytes));
    }
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_header_that_asks_for_what_was_not_offered_drops_its_frame() {
    let (mut card, mut host) = card();
    for header in [
        [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],
        [0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0],
    ] {
        card.post(header, &pattern(1000));
        card.driver.completed(TRANSMIT);
    }
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_frame_in_single_bytes_arrives() {
    let (mut card, mut host) = card();
    let page = card.driver.page();
    card.driver.write(page, &[0; 12]);
    card.driver.write(page + 12, &pattern(200));
    let pieces: Vec<_> = (0..212).map(|n| (page + n, 1)).collect();
    card.driver.submit(TRANSMIT, &pieces, &[]);
    assert_eq!(hear(&mut host), pattern(200));
}

#[test]
fn receive_buffers_that_hold_no_frame_are_a_fault() {
    let small = |card: &mut Card, page| {
        card.driver.submit(RECEIVE, &[], &[(page, 11)]);
    };
    let too_many_pieces = |card: &mut Card, page| {
        let head = card.driver.submit(RECEIVE, &[], &[(page, 6), (page, 6)]);
        for _ in 0..200 {
            card.driver.offer(RECEIVE, head);
        }
    };
    let two_for_one = |card: &mut Card, page| {
        card.driver.submit(RECEIVE, &[], &[(page, 1000)]);
        card.driver.submit(RECEIVE, &[], &[(page, 10_000)]);
    };
    let cases: [(u64, Post); 3] = [
        (ALL, small),
        (ALL, too_many_pieces),
        (!MERGEABLE, two_for_one),
    ];
    for (mask, post) in cases {
        let (mut card, mut host) = resting_card();
        card.driver.bring_up_with(mask);
        let page = card.driver.pages(3);
        post(&mut card, page);
        say(&mut host, &pattern(9000));
        card.driver.faulted();
        assert_eq!(card.driver.used_index(RECEIVE), 0);
        card.open(ALL);
        assert_alive(&mut card, &mut host);
    }
}

#[test]
fn a_queue_of_crumbs_receives_nothing_and_sends_on() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    let page = card.driver.page();
    for n in 0..256 {
        card.driver.submit(RECEIVE, &[], &[(page + n * 12, 12)]);
    }
    say(&mut host, &pattern(9000));
    card.send(&pattern(60));
    assert_eq!(hear(&mut host), pattern(60));
    assert_eq!(card.driver.used_index(RECEIVE), 0);
}

#[test]
fn buffers_that_can_only_be_read_are_a_fault() {
    let (mut card, mut host) = resting_card();
    card.driver.bring_up();
    let page = card.driver.page();
    card.driver.submit(RECEIVE, &[(page, 4096)], &[]);
    say(&mut host, &pattern(60));
    card.driver.faulted();
    card.open(ALL);
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_reset_in_the_middle_of_frames_leaves_the_stream_in_step() {
    let (mut card, mut host) = card();
    // Half a frame has come.
    host.write_all(&1000u32.to_be_bytes()).unwrap();
    host.write_all(&pattern(500)).unwrap();
    // And the host has taken part of one of many.
    let page = card.driver.pages(16);
    card.driver.write(page, &[0; 12]);
    card.driver.write(page + 12, &pattern(60_000));
    for _ in 0..50 {
        card.driver.submit(TRANSMIT, &[(page, 60_012)], &[]);
    }
    card.driver.completed(TRANSMIT);
    card.open(ALL);
    host.write_all(&pattern(500)).unwrap();
    say(&mut host, &pattern(80));
    assert_eq!(card.receive().1, pattern(80));
    card.post([0; 12], &pattern(90));
    let mut frames = Vec::new();
    while frames.last() != Some(&pattern(90)) {
        frames.push(hear(&mut host));
    }
    let cut = frames.iter().filter(|frame| **frame != pattern(60_000));
    // At most one of them, filled up with zeros, and the last.
    assert!(cut.count() <= 2);
    card.driver.completed(TRANSMIT);
}

#[test]
fn a_host_that_goes_takes_the_link_down_and_nothing_else() {
    let (mut card, host) = card();
    drop(host);
    while card.driver.register(0x060) & 2 == 0 {
        thread::yield_now();
    }
    assert_eq!(config(&card)[6], 0);
    assert_eq!(card.driver.register(0x0fc), 1);
    for _ in 0..300 {
        card.send(&pattern(60));
    }
    // For the next driver as well.
    card.open(ALL);
    card.send(&pattern(60));
    assert_eq!(config(&card)[6], 0);
    assert_eq!(card.driver.status(), 15);
}

#[test]
fn a_host_that_says_nonsense_is_left() {
    for length in [65_551u32, u32::MAX] {
        let (mut card, mut host) = card();
        host.write_all(&length.to_be_bytes()).unwrap();
        // The card has closed its end.
        assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
        card.send(&pattern(60));
        assert_eq!(card.driver.status(), 15);
    }
}
