//! A driver of a network card: what Linux's `virtio_net` does to one pair of queues.

use super::Driver;

/// Queue indices, virtio 1.2 §5.1.2.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

const PAGE_BYTES: u32 = 4096;
const HEADER_BYTES: usize = 12;

/// A card, with a page for each receive buffer.
pub struct Card {
    /// The driver beneath.
    pub driver: Driver,
    /// Pages by the head of their chain.
    buffers: Vec<u64>,
    sent: u64,
}

impl Card {
    /// A card that is in any state.
    pub fn new(mut driver: Driver) -> Self {
        driver.polite = true;
        let buffers = (0..64).map(|_| driver.page()).collect();
        Self {
            buffers,
            sent: driver.pages(32),
            driver,
        }
    }

    /// Starts the device with the features in `mask`, as Linux does.
    pub fn open(&mut self, mask: u64) {
        self.driver.reset();
        self.driver.bring_up_with(mask);
        for page in self.buffers.clone() {
            self.driver.submit(RECEIVE, &[], &[(page, PAGE_BYTES)]);
        }
    }

    /// Posts a frame behind a header, whatever that says, and does not wait.
    pub fn post(&mut self, header: [u8; HEADER_BYTES], frame: &[u8]) {
        self.driver.write(self.sent, &header);
        let place = self.sent + HEADER_BYTES as u64;
        self.driver.write(place, frame);
        let buffers = [
            (self.sent, HEADER_BYTES as u32),
            (place, frame.len() as u32),
        ];
        self.driver.submit(TRANSMIT, &buffers, &[]);
    }

    /// Sends a frame and waits until the device has taken it.
    pub fn send(&mut self, frame: &[u8]) {
        self.post([0; HEADER_BYTES], frame);
        self.driver.completed(TRANSMIT);
    }

    /// Waits for a frame; returns its header, the bytes, and how many buffers held them, which go
    /// back to the device.
    pub fn receive(&mut self) -> (Vec<u8>, Vec<u8>, u16) {
        let mut bytes = self.take();
        let count = u16::from_le_bytes([bytes[10], bytes[11]]);
        for _ in 1..count {
            bytes.extend(self.take());
        }
        let frame = bytes.split_off(HEADER_BYTES);
        (bytes, frame, count)
    }

    fn take(&mut self) -> Vec<u8> {
        let used = self.driver.completed(RECEIVE);
        let page = self.buffers[usize::from(used.head)];
        let bytes = self.driver.read(page, used.written_bytes as usize);
        self.driver.offer(RECEIVE, used.head);
        bytes
    }
}
