//! The virtio-mmio transport, version 2 (virtio 1.2 §4.2): registers and the status machine.
//!
//! All that decides anything is checked here, before a worker exists: features, queue sizes and
//! addresses, the order of status bits. A reset stops the workers and takes their handlers back,
//! so a driver may start the device as often as it likes. Legacy (version 1) is left out.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use virtio_bindings::virtio_config as status;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::config::Config;
use super::interrupt::Interrupt;
use super::queue::Registers;
use super::roster::Roster;
use super::worker::{self, Worker};
use super::{Device, Facts, Handler, Queue};
use crate::Memory;
use crate::log::Log;

/// Bytes of a device's register window.
pub const WINDOW_BYTES: u64 = 0x1000;

/// Offset of the register that kicks a queue, for ioeventfds (§4.2.2).
pub const QUEUE_NOTIFY: u64 = 0x050;

/// "virt", `MagicValue`.
const MAGIC: u32 = 0x7472_6976;
/// "mvm", `VendorID`: no one assigns these.
const VENDOR: u32 = 0x006d_766d;

/// `VIRTIO_F_VERSION_1`, `VIRTIO_F_INDIRECT_DESC`, `VIRTIO_F_EVENT_IDX` (§6).
const TRANSPORT_FEATURES: u64 = 1 << 32 | 1 << 28 | 1 << 29;
const EVENT_IDX: u64 = 1 << 29;

/// Registers, §4.2.2.
mod reg {
    pub const MAGIC_VALUE: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR_ID: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    pub const QUEUE_SIZE: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = super::QUEUE_NOTIFY;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    pub const QUEUE_DESC_HIGH: u64 = 0x084;
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    pub const SHM_SEL: u64 = 0x0ac;
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    pub const SHM_LEN_HIGH: u64 = 0x0b4;
    pub const SHM_BASE_LOW: u64 = 0x0b8;
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// A device behind its register window.
pub struct Mmio {
    facts: Facts,
    parts: Vec<PartSlot>,
    config: Config,
    memory: Memory,
    interrupt: Interrupt,
    faulted: Arc<AtomicBool>,
    log: Arc<Log>,
    roster: Arc<Roster>,
    had_driver: bool,
    queues: Vec<Registers>,
    kicks: Vec<EventFd>,
    status: u32,
    driver_features: u64,
    device_features_sel: u32,
    driver_features_sel: u32,
    queue_sel: u32,
    shm_sel: u32,
    /// Guest addresses of shared memory region 0.
    shared: Option<Range<u64>>,
}

/// A part at rest or running.
struct PartSlot {
    queues: Range<usize>,
    state: PartState,
}

enum PartState {
    Resting(Box<dyn Handler>),
    Running(Worker),
    /// Its thread could not be started or panicked.
    Lost,
}

impl Mmio {
    /// Puts `device` behind a register window, and enters it in the machine's `roster`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(
        device: Device,
        memory: Memory,
        interrupt: EventFd,
        roster: Arc<Roster>,
    ) -> anyhow::Result<Self> {
        let Device { facts, parts } = device;
        let queues = facts.queue_sizes.iter().copied().map(Registers::new);
        let queues = queues.collect();
        let kicks = facts
            .queue_sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK).context("cannot create an eventfd"))
            .collect::<anyhow::Result<_>>()?;
        let parts = parts
            .into_iter()
            .map(|part| PartSlot {
                queues: part.queues,
                state: PartState::Resting(part.handler),
            })
            .collect();
        roster.enter();
        Ok(Self {
            config: Config::new(facts.config.clone()),
            facts,
            parts,
            memory,
            interrupt: Interrupt::new(interrupt),
            faulted: Arc::default(),
            log: Arc::new(Log::new()),
            roster,
            had_driver: false,
            queues,
            kicks,
            status: 0,
            driver_features: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            shm_sel: 0,
            shared: None,
        })
    }

    /// Gives the device the shared memory region 0 (§2.10), at these guest addresses.
    pub fn share(&mut self, addresses: Range<u64>) {
        self.shared = Some(addresses);
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// The events that kick each queue, for ioeventfds.
    pub fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    /// The guest reads `data.len()` bytes at `offset` of the window.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            return self.config.read(offset, data);
        }
        // Registers are 32 bits wide and aligned (§4.2.2.2); anything else reads as zero.
        let value = if data.len() == 4 && offset.is_multiple_of(4) {
            self.register(offset)
        } else {
            0
        };
        let padded = value.to_le_bytes().into_iter().chain(std::iter::repeat(0));
        for (to, from) in data.iter_mut().zip(padded) {
            *to = from;
        }
    }

    /// The guest writes `data` at `offset` of the window.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        // No device here has a configuration that its driver writes.
        let Ok(bytes) = <[u8; 4]>::try_from(data) else {
            return;
        };
        self.set_register(offset, u32::from_le_bytes(bytes));
    }

    /// Stops the device's threads.
    pub fn shutdown(&mut self) {
        for part in &mut self.parts {
            part.stop(&self.log);
        }
    }

    /// Has new threads go on with what the device's threads do, as [`Worker::renew`] does; nothing
    /// where there are none, or they wait for a reset.
    ///
    /// # Errors
    /// One cannot be started. The device then needs a reset, after which it is lost.
    pub fn renew(&mut self) -> anyhow::Result<()> {
        if self.faulted.load(Ordering::SeqCst) {
            return Ok(());
        }
        let renewed = self.parts.iter_mut().try_for_each(PartSlot::renew);
        if renewed.is_err() {
            self.faulted.store(true, Ordering::SeqCst);
            self.interrupt.config_change();
        }
        renewed.with_context(|| format!("cannot go on with device {}", self.facts.name))
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.queue_sel as usize);
        match offset {
            reg::MAGIC_VALUE => MAGIC,
            reg::VERSION => 2,
            reg::DEVICE_ID => self.facts.id,
            reg::VENDOR_ID => VENDOR,
            reg::DEVICE_FEATURES => half(self.features(), self.device_features_sel),
            reg::QUEUE_SIZE_MAX => queue.map_or(0, |queue| u32::from(queue.size_max)),
            reg::QUEUE_READY => queue.map_or(0, |queue| u32::from(queue.ready)),
            reg::INTERRUPT_STATUS => self.interrupt.status(),
            reg::STATUS => self.status | self.needs_reset(),
            reg::SHM_LEN_LOW => half(self.selected_region().1, 0),
            reg::SHM_LEN_HIGH => half(self.selected_region().1, 1),
            reg::SHM_BASE_LOW => half(self.selected_region().0, 0),
            reg::SHM_BASE_HIGH => half(self.selected_region().0, 1),
            reg::CONFIG_GENERATION => self.config.generation(),
            _ => 0,
        }
    }

    /// Address and length of the shared memory region that the driver selected. Where there is none all is
    /// ones (§4.2.2): zero would be a region of no bytes, which Linux's virtio-fs driver fails to probe.
    fn selected_region(&self) -> (u64, u64) {
        match &self.shared {
            Some(Range { start, end }) if self.shm_sel == 0 => (*start, end.saturating_sub(*start)),
            _ => (u64::MAX, u64::MAX),
        }
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        match offset {
            reg::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            reg::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            reg::DRIVER_FEATURES => self.set_driver_features(value),
            reg::QUEUE_SEL => self.queue_sel = value,
            reg::SHM_SEL => self.shm_sel = value,
            reg::QUEUE_NOTIFY => self.kick(value),
            reg::INTERRUPT_ACK => self.interrupt.acknowledge(value),
            reg::STATUS => self.set_status(value),
            _ => self.set_queue_register(offset, value),
        }
    }

    /// The registers of the selected queue, which are fixed once the driver runs (§4.2.3.2).
    fn set_queue_register(&mut self, offset: u64, value: u32) {
        let settable = self.status & (status::VIRTIO_CONFIG_S_FEATURES_OK | DRIVER_OK)
            == status::VIRTIO_CONFIG_S_FEATURES_OK;
        let queue = self.queues.get_mut(self.queue_sel as usize);
        let Some(queue) = queue.filter(|_| settable) else {
            return;
        };
        match offset {
            reg::QUEUE_SIZE => queue.size = value,
            reg::QUEUE_READY => queue.ready = value == 1,
            reg::QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            reg::QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            reg::QUEUE_DRIVER_LOW => set_low(&mut queue.available, value),
            reg::QUEUE_DRIVER_HIGH => set_high(&mut queue.available, value),
            reg::QUEUE_DEVICE_LOW => set_low(&mut queue.used, value),
            reg::QUEUE_DEVICE_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    fn features(&self) -> u64 {
        self.facts.features | TRANSPORT_FEATURES
    }

    fn needs_reset(&self) -> u32 {
        if self.faulted.load(Ordering::SeqCst) {
            status::VIRTIO_CONFIG_S_NEEDS_RESET
        } else {
            0
        }
    }

    fn set_driver_features(&mut self, value: u32) {
        let negotiating = self.status
            & (status::VIRTIO_CONFIG_S_DRIVER | status::VIRTIO_CONFIG_S_FEATURES_OK)
            == status::VIRTIO_CONFIG_S_DRIVER;
        if !negotiating {
            return;
        }
        match self.driver_features_sel {
            0 => set_low(&mut self.driver_features, value),
            1 => set_high(&mut self.driver_features, value),
            _ => {}
        }
    }

    fn kick(&self, queue: u32) {
        if let Some(kick) = self.kicks.get(queue as usize) {
            // Fails only when the counter is full, and then the kick is pending all the same.
            let _ = kick.write(1);
        }
    }

    /// Steps forward along §3.1.1, or resets. A step that is out of order is not taken.
    fn set_status(&mut self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        // The driver reads this bit and so writes it back, but only the device sets it.
        let value = value & !status::VIRTIO_CONFIG_S_NEEDS_RESET;
        let added = value & !self.status;
        if value & self.status != self.status {
            // Bits are only ever cleared by a reset (§2.1.1).
            return;
        }
        let accepted = match added {
            status::VIRTIO_CONFIG_S_ACKNOWLEDGE => self.status == 0,
            status::VIRTIO_CONFIG_S_DRIVER => self.status == status::VIRTIO_CONFIG_S_ACKNOWLEDGE,
            status::VIRTIO_CONFIG_S_FEATURES_OK => self.features_are_ok(),
            DRIVER_OK => self.status & status::VIRTIO_CONFIG_S_FEATURES_OK != 0 && self.activate(),
            status::VIRTIO_CONFIG_S_FAILED => true,
            _ => false,
        };
        if accepted {
            self.status = value;
        }
    }

    fn features_are_ok(&self) -> bool {
        let driver_ready = status::VIRTIO_CONFIG_S_ACKNOWLEDGE | status::VIRTIO_CONFIG_S_DRIVER;
        // A driver without VERSION_1 wants the legacy interface, which is not here.
        self.status == driver_ready
            && self.driver_features & !self.features() == 0
            && self.driver_features & 1 << 32 != 0
    }

    fn activate(&mut self) -> bool {
        if !self.had_driver {
            self.had_driver = true;
            self.roster.driven();
        }
        match self.start_parts() {
            Ok(()) => true,
            Err(error) => {
                let name = &self.facts.name;
                self.log
                    .tell(format_args!("cannot start device {name}: {error:#}"));
                self.faulted.store(true, Ordering::SeqCst);
                self.interrupt.config_change();
                true
            }
        }
    }

    fn start_parts(&mut self) -> anyhow::Result<()> {
        // All of them first: a device with one queue that cannot work does not start in part.
        let event_idx = self.driver_features & EVENT_IDX != 0;
        let mut rings = Vec::new();
        for queue in &self.queues {
            rings.push(Some(queue.ring(&self.memory, event_idx)?));
        }
        for (index, part) in self.parts.iter_mut().enumerate() {
            let mut queues = Vec::new();
            for queue in part.queues.clone() {
                let ring = rings.get_mut(queue).and_then(Option::take);
                let (Some(ring), Some(kick)) = (ring, self.kicks.get(queue)) else {
                    anyhow::bail!("a part names a queue that its device has not");
                };
                let kick = kick.try_clone().context("cannot duplicate an eventfd")?;
                queues.push((Queue::new(ring, self.memory.clone()), kick));
            }
            let name = match index {
                0 => self.facts.name.clone(),
                _ => format!("{}.{index}", self.facts.name),
            };
            let setup = worker::Setup {
                name,
                queues,
                features: self.driver_features,
                config: self.config.clone(),
                interrupt: self.interrupt.clone(),
                roster: Arc::clone(&self.roster),
                faulted: self.faulted.clone(),
                log: self.log.clone(),
            };
            part.start(setup)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.shutdown();
        for queue in &mut self.queues {
            *queue = Registers::new(queue.size_max);
        }
        for kick in &self.kicks {
            // Nothing to read is as good: a kick of the driver before must not reach the next.
            let _ = kick.read();
        }
        self.faulted.store(false, Ordering::SeqCst);
        self.interrupt.clear();
        self.status = 0;
        self.driver_features = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.queue_sel = 0;
        self.shm_sel = 0;
    }
}

/// `DRIVER_OK`, by its name in the specification.
const DRIVER_OK: u32 = status::VIRTIO_CONFIG_S_DRIVER_OK;

impl PartSlot {
    fn start(&mut self, setup: worker::Setup) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.state, PartState::Lost) {
            PartState::Resting(handler) => {
                self.state = PartState::Running(Worker::spawn(handler, setup)?);
                Ok(())
            }
            running_or_lost => {
                self.state = running_or_lost;
                anyhow::bail!("it is not at rest")
            }
        }
    }

    fn renew(&mut self) -> anyhow::Result<()> {
        self.state = match std::mem::replace(&mut self.state, PartState::Lost) {
            PartState::Running(worker) => PartState::Running(worker.renew()?),
            resting_or_lost => resting_or_lost,
        };
        Ok(())
    }

    fn stop(&mut self, log: &Log) {
        self.state = match std::mem::replace(&mut self.state, PartState::Lost) {
            PartState::Running(worker) => match worker.stop() {
                Ok(handler) => PartState::Resting(handler),
                Err(error) => {
                    log.tell(format_args!("{error:#}"));
                    PartState::Lost
                }
            },
            resting_or_lost => resting_or_lost,
        };
    }
}

/// The half of `bits` that a feature select register asks for (§4.2.2).
fn half(bits: u64, select: u32) -> u32 {
    match select {
        0 => bits as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}

fn set_low(bits: &mut u64, value: u32) {
    *bits = *bits & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(bits: &mut u64, value: u32) {
    *bits = *bits & u64::from(u32::MAX) | u64::from(value) << 32;
}

#[cfg(test)]
mod tests;
