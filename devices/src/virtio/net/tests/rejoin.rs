//! A card whose stream ends, and which gets another one, or none.

use std::io;
use std::sync::mpsc::{self, Sender};

use super::*;
use crate::virtio::net::Rejoining;

/// What the next attempt to fetch a stream comes to.
type Fetched = io::Result<UnixStream>;

/// A card that Linux has started, the host's end of its stream, and where the next ones come from.
fn card() -> (Card, UnixStream, Sender<Fetched>) {
    let (sender, streams) = mpsc::channel::<Fetched>();
    let (stream, host) = UnixStream::pair().unwrap();
    let fetch = move || {
        streams
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("over")))
    };
    let driver = Driver::attach(|memory| {
        let config = Config {
            name: "net".into(),
            mac: [2, 3, 4, 5, 6, 7],
            mtu: MTU,
            backend: Box::new(Rejoining::new("net".into(), stream, Box::new(fetch)).unwrap()),
            counters: Arc::default(),
            rate: None,
        };
        config.open(memory).unwrap()
    });
    let mut card = Card::new(driver);
    card.open(ALL);
    (card, host, sender)
}

/// Another stream for the card; returns the host's end of it.
fn give(streams: &Sender<Fetched>) -> UnixStream {
    let (stream, host) = UnixStream::pair().unwrap();
    streams.send(Ok(stream)).unwrap();
    host
}

#[test]
fn the_card_goes_on_with_the_next_stream() {
    let (mut card, mut host, streams) = card();
    for _ in 0..5 {
        assert_alive(&mut card, &mut host);
        drop(host);
        host = give(&streams);
        say(&mut host, &pattern(300));
        assert_eq!(card.receive().1, pattern(300));
    }
    assert_alive(&mut card, &mut host);
    assert_eq!(config(&card)[6], 1);
}

#[test]
fn frames_of_the_meantime_are_lost_and_hold_up_nobody() {
    let (mut card, host, streams) = card();
    drop(host);
    for _ in 0..100 {
        card.send(&pattern(1000));
    }
    let mut host = give(&streams);
    // It has joined when it says what it hears.
    say(&mut host, &pattern(80));
    assert_eq!(card.receive().1, pattern(80));
    assert_alive(&mut card, &mut host);
}

#[test]
fn half_a_frame_is_forgotten_with_its_stream() {
    let (mut card, mut host, streams) = card();
    host.write_all(&9000u32.to_be_bytes()).unwrap();
    host.write_all(&pattern(5000)).unwrap();
    drop(host);
    let mut host = give(&streams);
    say(&mut host, &pattern(6000));
    assert_eq!(card.receive().1, pattern(6000));
    assert_alive(&mut card, &mut host);
}

#[test]
fn half_a_frame_that_is_sent_is_not_finished_on_the_next_stream() {
    let (mut card, host, streams) = card();
    // More than a socket takes at once, so that the last one has begun.
    for _ in 0..30 {
        card.post([0; 12], &pattern(60_000));
    }
    drop(host);
    for _ in 0..30 {
        card.driver.completed(TRANSMIT);
    }
    let mut host = give(&streams);
    say(&mut host, &pattern(80));
    assert_eq!(card.receive().1, pattern(80));
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_reset_meanwhile_does_no_harm() {
    let (mut card, host, streams) = card();
    drop(host);
    card.send(&pattern(60));
    card.open(ALL);
    let mut host = give(&streams);
    say(&mut host, &pattern(80));
    assert_eq!(card.receive().1, pattern(80));
    assert_alive(&mut card, &mut host);
}

#[test]
fn without_another_stream_the_link_is_down_and_the_driver_goes_on() {
    let (mut card, host, streams) = card();
    streams
        .send(Err(io::Error::other("nobody is there")))
        .unwrap();
    drop(host);
    while card.driver.register(0x060) & 2 == 0 {
        thread::yield_now();
    }
    assert_eq!(config(&card)[6], 0);
    for _ in 0..10 {
        card.send(&pattern(60));
    }
}
