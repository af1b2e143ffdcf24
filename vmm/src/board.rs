//! Where devices are plugged in: each gets the next window and interrupt.

use std::sync::Arc;

use anyhow::{Context, ensure};
use devices::Memory;
use devices::serial::{self, Serial};
use devices::virtio::Device;
use devices::virtio::mmio::{Mmio, QUEUE_NOTIFY};
use devices::virtio::region::Region;
use devices::virtio::roster::Roster;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::Bus;
use crate::kvm::{Doorbell, Line, Slot};
use crate::layout;

/// A machine's devices while they are being put in.
pub struct Board<'a> {
    memory: &'a Memory,
    virtio: Vec<Mmio>,
    roster: Arc<Roster>,
    wiring: Wiring,
    /// Where the guest has the next files as memory.
    next: u64,
}

/// What KVM is to be told of a board.
#[derive(Default)]
pub struct Wiring {
    /// The devices' interrupts.
    pub lines: Vec<Line>,
    /// The kicks of their queues.
    pub doorbells: Vec<Doorbell>,
    /// Files that are memory of the guest.
    pub slots: Vec<Slot>,
}

impl<'a> Board<'a> {
    /// An empty board.
    pub fn new(memory: &'a Memory) -> Self {
        let bytes = memory.iter().map(GuestMemoryRegion::len).sum();
        Self {
            next: layout::above_memory(bytes),
            memory,
            virtio: Vec::new(),
            roster: Arc::default(),
            wiring: Wiring::default(),
        }
    }

    /// Puts files behind all memory; where the guest has them.
    ///
    /// # Errors
    /// There is no address left.
    pub fn place(&mut self, region: Arc<Region>) -> anyhow::Result<u64> {
        let gpa = self.next;
        let end = gpa.checked_add(region.bytes());
        let next = end.and_then(|end| end.checked_next_multiple_of(layout::FILES_ALIGNMENT));
        self.next = next.context("no address is left for files as memory")?;
        self.wiring.slots.push(Slot { gpa, region });
        Ok(gpa)
    }

    /// Plugs a virtio device in.
    ///
    /// # Errors
    /// There is no interrupt left, or no descriptor.
    pub fn add(&mut self, device: Device) -> anyhow::Result<()> {
        let name = device.facts.name.clone();
        self.plug_in(device)
            .with_context(|| format!("cannot add device {name}"))
    }

    /// Plugs a virtio device in that has files in its shared memory region 0.
    ///
    /// # Errors
    /// As [`Board::add`] and [`Board::place`].
    pub fn add_with_region(&mut self, device: Device, region: Arc<Region>) -> anyhow::Result<()> {
        self.add(device)?;
        let bytes = region.bytes();
        let gpa = self.place(region)?;
        if let Some(device) = self.virtio.last_mut() {
            device.share(gpa..gpa + bytes);
        }
        Ok(())
    }

    fn plug_in(&mut self, device: Device) -> anyhow::Result<()> {
        let index = self.virtio.len();
        ensure!(
            self.has_room(),
            "a machine has at most {}",
            layout::VIRTIO_DEVICES_MAX
        );
        let line = self.line(layout::virtio_gsi(index))?;
        let device = Mmio::new(device, self.memory.clone(), line, self.roster())?;
        let register = layout::virtio_window(index) + QUEUE_NOTIFY;
        for (queue, kick) in (0..).zip(device.kicks()) {
            self.wiring.doorbells.push(Doorbell {
                register,
                queue,
                kick: kick.try_clone().context("cannot duplicate an eventfd")?,
            });
        }
        self.virtio.push(device);
        Ok(())
    }

    /// Whether one more can be plugged in.
    pub fn has_room(&self) -> bool {
        self.virtio.len() < layout::VIRTIO_DEVICES_MAX
    }

    /// Virtio devices so far.
    pub fn devices(&self) -> usize {
        self.virtio.len()
    }

    /// The devices as one.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// Closes the board, with a serial port whose output goes to `console`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn finish(
        mut self,
        console: Box<dyn std::io::Write + Send>,
    ) -> anyhow::Result<(Arc<Bus>, Wiring)> {
        let line = self.line(serial::IRQ)?;
        let serial = Serial::new(line, console, self.roster);
        Ok((Arc::new(Bus::new(serial, self.virtio)), self.wiring))
    }

    fn line(&mut self, gsi: u32) -> anyhow::Result<EventFd> {
        let event = EventFd::new(EFD_NONBLOCK).context("cannot create an eventfd")?;
        let line = event.try_clone().context("cannot duplicate an eventfd")?;
        self.wiring.lines.push(Line { gsi, event });
        Ok(line)
    }
}
