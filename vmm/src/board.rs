//! Where devices are plugged in: each gets the next window and interrupt.

use std::sync::Arc;

use anyhow::{Context, ensure};
use devices::Memory;
use devices::serial::{self, Serial};
use devices::virtio::Device;
use devices::virtio::mmio::Mmio;
use devices::virtio::roster::Roster;

use crate::bus::Bus;
use crate::kvm::Vm;
use crate::layout;

/// A machine's devices while they are being put in.
pub struct Board<'a> {
    vm: &'a Vm,
    memory: &'a Memory,
    virtio: Vec<Mmio>,
    roster: Arc<Roster>,
}

impl<'a> Board<'a> {
    /// An empty board.
    pub fn new(vm: &'a Vm, memory: &'a Memory) -> Self {
        Self {
            vm,
            memory,
            virtio: Vec::new(),
            roster: Arc::default(),
        }
    }

    /// Plugs a virtio device in.
    ///
    /// # Errors
    /// There is no interrupt left, or no descriptor.
    pub fn add(&mut self, device: Device) -> anyhow::Result<()> {
        let index = self.virtio.len();
        ensure!(
            self.has_room(),
            "cannot add device {}: a machine has at most {}",
            device.facts.name,
            layout::VIRTIO_DEVICES_MAX
        );
        let name = device.facts.name.clone();
        let line = self.vm.interrupt_line(layout::virtio_gsi(index))?;
        let device = Mmio::new(device, self.memory.clone(), line, self.roster())
            .with_context(|| format!("cannot add device {name}"))?;
        self.vm.wire_kicks(&device, layout::virtio_window(index))?;
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
    pub fn finish(self, console: Box<dyn std::io::Write + Send>) -> anyhow::Result<Arc<Bus>> {
        let line = self.vm.interrupt_line(serial::IRQ)?;
        let serial = Serial::new(line, console, self.roster);
        Ok(Arc::new(Bus::new(serial, self.virtio)))
    }
}
