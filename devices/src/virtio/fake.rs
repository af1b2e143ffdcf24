//! A driver for tests: what Linux does to a device, without a kernel and without KVM.
//!
//! It brings a device up through its registers as virtio 1.2 §3.1.1 says, posts chains and waits
//! for them. Tests of hostile drivers use the same hands: every ring and descriptor is written
//! as given.
#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a driver that panics fails its test, which is what it is for"
    )
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_config as status;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::mmio::Mmio;
use super::roster::Roster;
use super::{Device, Facts};
use crate::Memory;

mod card;
mod configs;
mod port;
mod sockets;

pub use card::Card;
pub use configs::{disk, network_card};
pub use port::{Port, message};
pub use sockets::{Sockets, packet};

/// Guest memory of the fake machine: 16 MiB, of which the first holds the rings, then a hole, and
/// 1 MiB behind it.
const MEMORY_BYTES: usize = 16 << 20;
/// Where two regions of guest memory meet.
pub const SEAM: u64 = 8 << 20;
/// The first address that is no memory.
pub const HOLE: u64 = MEMORY_BYTES as u64;
/// The last region of guest memory, behind the hole.
pub const ISLAND: u64 = 32 << 20;
/// The end of guest memory.
pub const ISLAND_END: u64 = ISLAND + (1 << 20);
const RING_BYTES: u64 = 0x1_0000;
const PAGES_START: u64 = 1 << 20;

/// How long a completion may take on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// `VIRTIO_F_EVENT_IDX`, §6.
pub const EVENT_IDX: u64 = 1 << 29;

/// A descriptor's flags, §2.7.5.
pub const NEXT: u16 = 1;
/// The device writes the buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// A chain that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// First descriptor.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub written_bytes: u32,
}

/// The driver and its machine.
pub struct Driver {
    /// The device's registers.
    pub mmio: Mmio,
    /// The machine's devices, of which this is the only one.
    pub roster: Arc<Roster>,
    /// Guest memory.
    pub memory: Memory,
    /// Kicks only when the device wants it, as Linux does.
    pub polite: bool,
    event_idx: bool,
    queues: Vec<DriverQueue>,
    next_page: u64,
}

struct DriverQueue {
    size: u16,
    descriptors: u64,
    avail: u64,
    used: u64,
    next_descriptor: u16,
    avail_index: u16,
    used_index: u16,
}

impl Driver {
    /// Opens a device and brings it to `DRIVER_OK`.
    pub fn start(open: impl FnOnce(&Memory) -> Device) -> Self {
        let mut driver = Self::attach(open);
        driver.bring_up();
        driver
    }

    /// Opens a device and leaves it in reset.
    pub fn attach(open: impl FnOnce(&Memory) -> Device) -> Self {
        let ranges = [(0, SEAM), (SEAM, HOLE), (ISLAND, ISLAND_END)]
            .map(|(start, end)| (GuestAddress(start), (end - start) as usize));
        let memory: Memory = Arc::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        let device = open(&memory);
        let Facts { queue_sizes, .. } = device.facts.clone();
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let roster = Arc::default();
        let mmio = Mmio::new(device, memory.clone(), interrupt, Arc::clone(&roster)).unwrap();
        let queues = (0u64..)
            .zip(queue_sizes)
            .map(|(i, size)| DriverQueue::new(i, size))
            .collect();
        Self {
            mmio,
            roster,
            memory,
            polite: false,
            event_idx: false,
            queues,
            next_page: PAGES_START,
        }
    }

    /// Reads a register.
    pub fn register(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.mmio.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes a register.
    pub fn set_register(&mut self, offset: u64, value: u32) {
        self.mmio.write(offset, &value.to_le_bytes());
    }

    /// Device status.
    pub fn status(&self) -> u32 {
        self.register(0x070)
    }

    /// From reset to `DRIVER_OK`, accepting every feature.
    pub fn bring_up(&mut self) {
        self.bring_up_with(u64::MAX);
    }

    /// From reset to `DRIVER_OK`, accepting the features in `mask`.
    pub fn bring_up_with(&mut self, mask: u64) {
        self.negotiate(mask);
        self.set_up_queues();
        let reached = self.status() | status::VIRTIO_CONFIG_S_DRIVER_OK;
        self.set_register(0x070, reached);
    }

    /// From reset to `FEATURES_OK`, accepting the features in `mask`.
    pub fn negotiate(&mut self, mask: u64) {
        let mut reached = 0;
        for bit in [
            status::VIRTIO_CONFIG_S_ACKNOWLEDGE,
            status::VIRTIO_CONFIG_S_DRIVER,
        ] {
            reached |= bit;
            self.set_register(0x070, reached);
        }
        let accepted = self.offered_features() & mask;
        self.event_idx = accepted & EVENT_IDX != 0;
        self.set_driver_features(accepted);
        self.set_register(0x070, reached | status::VIRTIO_CONFIG_S_FEATURES_OK);
    }

    /// The features that the device offers.
    pub fn offered_features(&mut self) -> u64 {
        [0u32, 1].into_iter().fold(0, |features, select| {
            self.set_register(0x014, select);
            features | u64::from(self.register(0x010)) << (32 * select)
        })
    }

    /// Accepts features, offered or not.
    pub fn set_driver_features(&mut self, features: u64) {
        for select in [0u32, 1] {
            self.set_register(0x024, select);
            self.set_register(0x020, (features >> (32 * select)) as u32);
        }
    }

    /// Sets every queue up in its largest size.
    pub fn set_up_queues(&mut self) {
        for index in 0..self.queues.len() {
            self.set_up_queue(index);
        }
    }

    /// Waits for an interrupt that says that buffers were used.
    pub fn interrupted(&self) {
        self.wait_until("the device interrupts", |driver| {
            driver.register(0x060) & 1 != 0
        });
    }

    /// Resets the device; its queues start over.
    pub fn reset(&mut self) {
        self.set_register(0x070, 0);
        for (index, queue) in (0u64..).zip(&mut self.queues) {
            *queue = DriverQueue::new(index, queue.size);
            self.memory
                .write_slice(
                    &vec![0; RING_BYTES as usize],
                    GuestAddress(queue.descriptors),
                )
                .unwrap();
        }
    }

    fn set_up_queue(&mut self, index: usize) {
        let DriverQueue {
            size,
            descriptors,
            avail,
            used,
            ..
        } = self.queues[index];
        self.set_register(0x030, index as u32);
        self.set_register(0x038, size.into());
        for (offset, address) in [(0x080, descriptors), (0x090, avail), (0x0a0, used)] {
            self.set_register(offset, address as u32);
            self.set_register(offset + 4, (address >> 32) as u32);
        }
        self.set_register(0x044, 1);
    }

    /// A page of guest memory that nothing else uses.
    pub fn page(&mut self) -> u64 {
        self.pages(1)
    }

    /// Pages of guest memory in a row.
    pub fn pages(&mut self, count: u64) -> u64 {
        let page = self.next_page;
        self.next_page += count << 12;
        assert!(
            self.next_page <= MEMORY_BYTES as u64,
            "the fake machine is out of memory"
        );
        page
    }

    /// Bytes of guest memory.
    pub fn read(&self, gpa: u64, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        self.memory
            .read_slice(&mut data, GuestAddress(gpa))
            .unwrap();
        data
    }

    /// Sets guest memory.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(gpa)).unwrap();
    }

    /// Writes one descriptor, whatever it says.
    pub fn set_descriptor(
        &self,
        queue: usize,
        index: u16,
        gpa: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    ) {
        let table = self.queues[queue].descriptors;
        self.set_table_entry(table, index, gpa, bytes, flags, next);
    }

    /// Writes one entry of a table of descriptors anywhere.
    pub fn set_table_entry(
        &self,
        table: u64,
        index: u16,
        gpa: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    ) {
        let entry = table + u64::from(index) * 16;
        self.write(entry, &gpa.to_le_bytes());
        self.write(entry + 8, &bytes.to_le_bytes());
        self.write(entry + 12, &flags.to_le_bytes());
        self.write(entry + 14, &next.to_le_bytes());
    }

    /// Posts a chain of readable, then writable buffers (address, bytes), and kicks.
    pub fn submit(
        &mut self,
        queue: usize,
        readable: &[(u64, u32)],
        writable: &[(u64, u32)],
    ) -> u16 {
        let size = self.queues[queue].size;
        let head = self.queues[queue].next_descriptor;
        let buffers: Vec<_> = readable
            .iter()
            .map(|buffer| (*buffer, 0))
            .chain(writable.iter().map(|buffer| (*buffer, WRITE)))
            .collect();
        for (n, ((gpa, bytes), flags)) in (0u16..).zip(&buffers) {
            let index = (head + n) % size;
            let last = usize::from(n) + 1 == buffers.len();
            let flags = flags | if last { 0 } else { NEXT };
            self.set_descriptor(queue, index, *gpa, *bytes, flags, (index + 1) % size);
        }
        self.queues[queue].next_descriptor = (head + buffers.len() as u16) % size;
        self.offer(queue, head);
        head
    }

    /// Makes the chain at `head` available, and kicks.
    pub fn offer(&mut self, queue: usize, head: u16) {
        self.offer_silently(queue, head);
        if !self.polite || self.wants_kick(queue) {
            self.set_register(0x050, queue as u32);
        }
    }

    /// Makes the chain at `head` available, without a kick.
    pub fn offer_silently(&mut self, queue: usize, head: u16) {
        let DriverQueue {
            size,
            avail,
            avail_index,
            ..
        } = self.queues[queue];
        self.write(
            avail + 4 + u64::from(avail_index % size) * 2,
            &head.to_le_bytes(),
        );
        self.store_avail_index(queue, avail_index.wrapping_add(1));
    }

    /// Sets the available index, whatever it says, and kicks.
    pub fn set_avail_index(&mut self, queue: usize, index: u16) {
        self.store_avail_index(queue, index);
        self.set_register(0x050, queue as u32);
    }

    fn store_avail_index(&mut self, queue: usize, index: u16) {
        self.queues[queue].avail_index = index;
        let gpa = GuestAddress(self.queues[queue].avail + 2);
        self.memory
            .store(index, gpa, std::sync::atomic::Ordering::Release)
            .unwrap();
    }

    /// Waits for the next chain that comes back.
    pub fn completed(&mut self, queue: usize) -> Used {
        self.wait_until("a chain comes back", |driver| driver.has_completed(queue));
        let DriverQueue {
            size,
            used,
            used_index,
            ..
        } = self.queues[queue];
        let entry = used + 4 + u64::from(used_index % size) * 8;
        self.queues[queue].used_index = used_index.wrapping_add(1);
        let word = |gpa| self.memory.read_obj::<u32>(GuestAddress(gpa)).unwrap();
        Used {
            head: word(entry) as u16,
            written_bytes: word(entry + 4),
        }
    }

    /// Where the driver says up to which used index it wants no interrupt (§2.7.10).
    pub fn used_event_gpa(&self, queue: usize) -> u64 {
        let DriverQueue { size, avail, .. } = self.queues[queue];
        avail + 4 + u64::from(size) * 2
    }

    /// Whether the device wants a kick for the chain offered last (§2.7.7, §2.7.10).
    fn wants_kick(&self, queue: usize) -> bool {
        // The chain must be visible before the device's wish is read.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let DriverQueue {
            size,
            used,
            avail_index,
            ..
        } = self.queues[queue];
        let word = |gpa| self.memory.read_obj::<u16>(GuestAddress(gpa)).unwrap();
        if self.event_idx {
            word(used + 4 + u64::from(size) * 8) == avail_index.wrapping_sub(1)
        } else {
            word(used) & 1 == 0
        }
    }

    /// How many chains came back in all, wrapping.
    pub fn used_index(&self, queue: usize) -> u16 {
        let gpa = GuestAddress(self.queues[queue].used + 2);
        self.memory
            .load(gpa, std::sync::atomic::Ordering::Acquire)
            .unwrap()
    }

    /// Whether a chain has come back that nobody waited for.
    pub fn has_completed(&self, queue: usize) -> bool {
        self.used_index(queue) != self.queues[queue].used_index
    }

    /// Waits for `count` chains that come back, looking only when the device interrupts.
    pub fn completed_by_interrupts(&mut self, queue: usize, count: usize) -> Vec<Used> {
        let mut all = Vec::new();
        while all.len() < count {
            self.interrupted();
            self.set_register(0x064, 1);
            // One that comes back before the device knows that the driver waits is seen here.
            let mut seen = None;
            while seen != Some(self.used_index(queue)) {
                seen = Some(self.used_index(queue));
                while self.queues[queue].used_index != self.used_index(queue) {
                    all.push(self.completed(queue));
                }
                self.write(
                    self.used_event_gpa(queue),
                    &self.used_index(queue).to_le_bytes(),
                );
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
        }
        all
    }

    /// Waits until the device says that it needs a reset.
    pub fn faulted(&self) {
        self.wait_until("the device needs a reset", |driver| {
            driver.status() & status::VIRTIO_CONFIG_S_NEEDS_RESET != 0
        });
    }

    fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.mmio.shutdown();
    }
}

impl DriverQueue {
    fn new(index: u64, size: u16) -> Self {
        let descriptors = index * RING_BYTES;
        let avail = descriptors + u64::from(size) * 16;
        let used = (avail + 6 + u64::from(size) * 2).next_multiple_of(4);
        assert!(used + 6 + u64::from(size) * 8 <= (index + 1) * RING_BYTES);
        Self {
            size,
            descriptors,
            avail,
            used,
            next_descriptor: 0,
            avail_index: 0,
            used_index: 0,
        }
    }
}
