//! How much either side of a connection may send (virtio 1.2 §5.10.6.3).
//!
//! Each side says how much room it has, and counts what it has passed on; what the other has sent
//! beyond that count lies in that room. The counts are 32 bits wide and wrap, so that only their
//! differences mean anything.

/// Both directions of one connection. All in bytes.
#[derive(Debug)]
pub struct Credit {
    /// Room that the device has for what the guest sends.
    window: u32,
    /// What the guest sent, and how much of it has left that room.
    received: u32,
    forwarded: u32,
    /// `forwarded` as the guest knows it.
    told: u32,
    /// Room that the guest has.
    peer_window: u32,
    /// What was sent to the guest, and how much of it a program there has taken.
    sent: u32,
    peer_forwarded: u32,
}

impl Credit {
    /// A connection whose guest may send `window` bytes, and has not said what may be sent to it.
    pub fn new(window: u32) -> Self {
        Self {
            window,
            received: 0,
            forwarded: 0,
            told: 0,
            peer_window: 0,
            sent: 0,
            peer_forwarded: 0,
        }
    }

    /// Room of the device.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// What a packet of the guest says. False when it took back what it had said before, or
    /// passed on what it was never sent.
    #[must_use]
    pub fn hear(&mut self, buf_alloc: u32, fwd_cnt: u32) -> bool {
        let unread = self.sent.wrapping_sub(fwd_cnt);
        if unread > self.unread() {
            return false;
        }
        (self.peer_window, self.peer_forwarded) = (buf_alloc, fwd_cnt);
        true
    }

    /// What may be sent to the guest.
    pub fn may_send(&self) -> u32 {
        // A guest may make its room smaller than what lies in it.
        self.peer_window.saturating_sub(self.unread())
    }

    /// So much was sent to the guest: no more than [`Credit::may_send`].
    pub fn send(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }

    /// So much came from the guest. False when it may not have sent that.
    #[must_use]
    pub fn receive(&mut self, bytes: u32) -> bool {
        let held = self.received.wrapping_sub(self.forwarded);
        if bytes > self.window.saturating_sub(held) {
            return false;
        }
        self.received = self.received.wrapping_add(bytes);
        true
    }

    /// So much of what came has left the device: no more than was received.
    pub fn forward(&mut self, bytes: u32) {
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the guest has to be told that there is room again: it knows of less than half, so
    /// that it never waits while it may send, and is not told of each packet.
    pub fn is_news(&self) -> bool {
        let known_free = self
            .window
            .saturating_sub(self.received.wrapping_sub(self.told));
        self.told != self.forwarded && known_free < self.window / 2
    }

    /// `buf_alloc` and `fwd_cnt` of a packet that is sent now.
    pub fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (self.window, self.forwarded)
    }

    /// What was sent to the guest and lies there unread.
    fn unread(&self) -> u32 {
        self.sent.wrapping_sub(self.peer_forwarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credit() -> Credit {
        Credit::new(1000)
    }

    #[test]
    fn a_guest_that_said_nothing_is_sent_nothing() {
        assert_eq!(credit().may_send(), 0);
    }

    #[test]
    fn what_was_sent_counts_until_it_was_read() {
        let mut credit = credit();
        assert!(credit.hear(100, 0));
        credit.send(70);
        assert_eq!(credit.may_send(), 30);
        assert!(credit.hear(100, 50));
        assert_eq!(credit.may_send(), 80);
    }

    #[test]
    fn a_guest_may_make_its_room_smaller_than_what_lies_in_it() {
        let mut credit = credit();
        assert!(credit.hear(100, 0));
        credit.send(100);
        assert!(credit.hear(10, 20));
        assert_eq!(credit.may_send(), 0);
        assert!(credit.hear(10, 95));
        assert_eq!(credit.may_send(), 5);
        assert!(credit.hear(u32::MAX, 95));
        assert_eq!(credit.may_send(), u32::MAX - 5);
    }

    #[test]
    fn a_guest_cannot_read_what_it_was_not_sent() {
        let mut credit = credit();
        for fwd_cnt in [1, 1 << 31, u32::MAX] {
            assert!(!credit.hear(100, fwd_cnt));
        }
        assert!(credit.hear(100, 0));
        credit.send(60);
        assert!(!credit.hear(100, 61));
        assert!(credit.hear(100, 60));
    }

    #[test]
    fn a_guest_cannot_take_back_what_it_has_read() {
        let mut credit = credit();
        assert!(credit.hear(100, 0));
        credit.send(60);
        assert!(credit.hear(100, 40));
        assert!(!credit.hear(100, 39));
        assert_eq!(credit.may_send(), 80);
    }

    #[test]
    fn counts_wrap() {
        let mut credit = credit();
        let step = 1 << 30;
        assert!(credit.hear(u32::MAX, 0));
        let mut sent: u32 = 0;
        for _ in 0..9 {
            credit.send(step);
            assert_eq!(credit.may_send(), u32::MAX - step);
            sent = sent.wrapping_add(step);
            assert!(credit.hear(u32::MAX, sent));
            assert_eq!(credit.may_send(), u32::MAX);
        }
        let mut forwarded: u32 = 0;
        for _ in 0..5_000_000 {
            assert!(credit.receive(1000));
            assert!(!credit.receive(1));
            credit.forward(1000);
            forwarded = forwarded.wrapping_add(1000);
        }
        assert_eq!(credit.tell(), (1000, forwarded));
        assert!(forwarded < 1_000_000_000);
    }

    #[test]
    fn a_guest_may_not_send_more_than_there_is_room_for() {
        let mut credit = credit();
        assert!(!credit.receive(1001));
        assert!(!credit.receive(u32::MAX));
        assert!(credit.receive(600));
        assert!(!credit.receive(401));
        assert!(credit.receive(400));
        credit.forward(1);
        assert!(!credit.receive(2));
        assert!(credit.receive(1));
    }

    #[test]
    fn room_is_news_when_the_guest_knows_of_less_than_half() {
        let mut credit = credit();
        assert!(credit.receive(500));
        credit.forward(500);
        assert!(!credit.is_news());
        assert!(credit.receive(1));
        assert!(credit.is_news());
        assert_eq!(credit.tell(), (1000, 500));
        assert!(!credit.is_news());
        assert!(credit.receive(900));
        assert!(!credit.is_news());
        credit.forward(1);
        assert!(credit.is_news());
    }
}
