//! A card with a rate: what is too much waits in either direction, and nothing is lost.

use std::num::NonZeroU64;

use super::*;

fn limited(bytes_per_second: u64) -> (Card, UnixStream, Arc<Counters>) {
    let rate = Rate {
        bytes_per_second: NonZeroU64::new(bytes_per_second),
        ops_per_second: None,
        burst_bytes: NonZeroU64::new(1),
    };
    let (mut card, host, counters) = counted_card(Some(rate));
    card.open(ALL);
    (card, host, counters)
}

/// Resets the card, which waits for its worker: what that would do it has done.
fn rest(card: &mut Card) {
    card.driver.set_register(0x070, 0);
}

#[test]
fn a_frame_beyond_the_rate_waits() {
    let (mut card, mut host, _) = limited(1);
    // The second one's turn comes in more than an hour.
    for _ in 0..2 {
        card.post([0; 12], &pattern(5000));
    }
    card.driver.completed(TRANSMIT);
    assert_eq!(hear(&mut host), pattern(5000));
    // And so does that of what the host sends: both directions have one rate.
    say(&mut host, &pattern(5000));
    rest(&mut card);
    assert!(!card.driver.has_completed(TRANSMIT));
    assert!(!card.driver.has_completed(RECEIVE));
}

#[test]
fn what_the_host_sends_pays_as_well() {
    let (mut card, mut host, counters) = limited(1);
    for _ in 0..2 {
        say(&mut host, &pattern(5000));
    }
    assert_eq!(card.receive().1, pattern(5000));
    card.post([0; 12], &pattern(60));
    rest(&mut card);
    assert!(!card.driver.has_completed(TRANSMIT));
    assert_eq!(
        (counters.received_packets(), counters.sent_packets()),
        (1, 0)
    );
}

#[test]
fn what_waited_goes_when_its_time_has_come() {
    // Each frame waits for 4 ms, in both directions.
    let (mut card, mut host, _) = limited(1 << 20);
    for nth in 0..20 {
        say(&mut host, &pattern(4000 + nth));
        card.send(&pattern(2000 + nth));
        assert_eq!(hear(&mut host), pattern(2000 + nth));
        assert_eq!(card.receive().1, pattern(4000 + nth));
    }
    assert_alive(&mut card, &mut host);
}

#[test]
fn a_frame_that_comes_in_pieces_is_let_through_once() {
    // A token for each frame, and one in ten hundredths of a second.
    let (mut card, mut host, _) = {
        let rate = Rate {
            bytes_per_second: None,
            ops_per_second: NonZeroU64::new(100),
            burst_bytes: None,
        };
        let (mut card, host, counters) = counted_card(Some(rate));
        card.open(ALL);
        (card, host, counters)
    };
    for _ in 0..30 {
        host.write_all(&600u32.to_be_bytes()).unwrap();
        for piece in pattern(600).chunks(7) {
            host.write_all(piece).unwrap();
        }
        assert_eq!(card.receive().1, pattern(600));
    }
}

#[test]
fn a_reset_gives_nothing_back() {
    let (mut card, mut host, _) = limited(1);
    card.send(&pattern(5000));
    assert_eq!(hear(&mut host), pattern(5000));
    card.open(ALL);
    card.post([0; 12], &pattern(60));
    say(&mut host, &pattern(60));
    rest(&mut card);
    assert!(!card.driver.has_completed(TRANSMIT));
    assert!(!card.driver.has_completed(RECEIVE));
}
