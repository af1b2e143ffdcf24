//! A driver of the console device: what Linux's `virtio_console` does to one port.

use super::Driver;

/// Queue indices, virtio 1.2 §5.3.2.
pub const RECEIVE: usize = 0;
/// What the guest sends.
pub const TRANSMIT: usize = 1;
/// What the device tells its driver.
pub const CONTROL_RECEIVE: usize = 2;
/// What the driver tells its device.
pub const CONTROL_TRANSMIT: usize = 3;

const PAGE_BYTES: u32 = 4096;

/// A port of a console, with a page for each receive buffer.
pub struct Port {
    /// The driver beneath.
    pub driver: Driver,
    /// Pages by the head of their chain.
    data: Vec<u64>,
    control: Vec<u64>,
    sent: u64,
}

impl Port {
    /// A port of a device that is in any state.
    pub fn new(mut driver: Driver) -> Self {
        driver.polite = true;
        let mut pages = |count| (0..count).map(|_| driver.page()).collect();
        Self {
            data: pages(32),
            control: pages(8),
            sent: pages(256).remove(0),
            driver,
        }
    }

    /// Starts the device and opens the port, as Linux does; returns what the device called it.
    pub fn open(&mut self) -> String {
        self.driver.reset();
        self.driver.bring_up();
        self.connect();
        self.tell(0, 0, 1);
        assert_eq!(self.heard(), message(0, 1, 1));
        self.tell(0, 3, 1);
        let name = self.heard().split_off(8);
        self.heard();
        self.tell(0, 6, 1);
        self.post_data();
        String::from_utf8(name).unwrap()
    }

    /// Gives the device a page for each entry of the control queue.
    pub fn connect(&mut self) {
        for page in self.control.clone() {
            self.driver
                .submit(CONTROL_RECEIVE, &[], &[(page, PAGE_BYTES)]);
        }
    }

    /// Gives the device a page for each entry of the receive queue.
    pub fn post_data(&mut self) {
        for page in self.data.clone() {
            self.driver.submit(RECEIVE, &[], &[(page, PAGE_BYTES)]);
        }
    }

    /// Sends a control message and waits until the device has taken it.
    pub fn tell(&mut self, port: u32, event: u16, value: u16) {
        self.tell_bytes(&message(port, event, value));
        self.driver.completed(CONTROL_TRANSMIT);
    }

    /// Sends a control message, whatever it says.
    pub fn tell_bytes(&mut self, bytes: &[u8]) {
        self.driver.write(self.sent, bytes);
        let buffer = (self.sent, bytes.len() as u32);
        self.driver.submit(CONTROL_TRANSMIT, &[buffer], &[]);
    }

    /// Waits for a control message, and gives its buffer back to the device.
    pub fn heard(&mut self) -> Vec<u8> {
        let used = self.driver.completed(CONTROL_RECEIVE);
        let page = self.control[usize::from(used.head)];
        let bytes = self.driver.read(page, used.written_bytes as usize);
        self.driver.offer(CONTROL_RECEIVE, used.head);
        bytes
    }

    /// Posts bytes for the host, at most 1 MiB, and does not wait.
    pub fn post(&mut self, bytes: &[u8]) {
        self.driver.write(self.sent, bytes);
        let buffer = (self.sent, bytes.len() as u32);
        self.driver.submit(TRANSMIT, &[buffer], &[]);
    }

    /// Sends bytes to the host, and waits until the device has taken them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.post(bytes);
        self.driver.completed(TRANSMIT);
    }

    /// Waits for bytes of the host, and gives their buffer back to the device.
    pub fn receive(&mut self) -> Vec<u8> {
        let (head, bytes) = self.take();
        self.driver.offer(RECEIVE, head);
        bytes
    }

    /// Waits for bytes of the host, and keeps their buffer.
    pub fn take(&mut self) -> (u16, Vec<u8>) {
        let used = self.driver.completed(RECEIVE);
        let page = self.data[usize::from(used.head)];
        let bytes = self.driver.read(page, used.written_bytes as usize);
        (used.head, bytes)
    }
}

/// A control message, §5.3.6.2.
pub fn message(port: u32, event: u16, value: u16) -> Vec<u8> {
    [
        &port.to_le_bytes()[..],
        &event.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat()
}
