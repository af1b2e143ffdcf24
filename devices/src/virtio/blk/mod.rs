//! virtio-blk (virtio 1.2 §5.2): a disk whose sectors are the bytes of a file, or of a block device.
//!
//! Data goes between the file and guest pages by one `preadv` or `pwritev` for each request, through
//! the host's page cache; a flush is answered after `fdatasync` has returned. So what the guest was
//! told is on the disk survives the host's power failure, all else survives this process.
//!
//! Through the page cache, since a volume's file is mostly small and read by one machine after the
//! other: the next start finds it in memory. `O_DIRECT` would ask for aligned guest buffers and for
//! file systems that have it, and the guest has a cache of its own for what it reads twice.
//!
//! A thread for each queue rather than `io_uring`, by measurement (fio 3.33, 4 KiB at random in 512 MiB
//! on ext4, two cores): from the page cache 851,000 reads a second by `preadv`, 644,000 by `io_uring`
//! one at a time and 719,000 in batches of 16; 124,000 writes against 73,000; from the disk 14,000
//! by one thread, 68,000 by four, 30,000 by `io_uring` four deep. What waits for the disk delays its own
//! queue alone, of which there is one for each vCPU, up to [`QUEUES_MAX`].
//!
//! Left out: write-through for drivers without `VIRTIO_BLK_F_FLUSH` (Linux has had it since 2.6.32),
//! secure erase, zones, life time; `VIRTIO_BLK_F_CONFIG_WCE`, for nobody has to turn the promise off.

mod config;
mod counters;
mod disk;
mod image;
mod moderation;
mod plan9;
mod request;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, ensure};
use virtio_bindings::virtio_blk as blk;
use zerocopy::IntoBytes;

use super::rate_limiter::{Rate, Throttle};
use super::{Chain, Device, Facts, Fault, Handler, Part, Queue, Watch};
use crate::Memory;
pub use counters::Counters;
use disk::Disk;
pub use disk::{Medium, SECTOR_BYTES};
use image::Image;
use moderation::Moderation;
use plan9::Plan9;

/// Device type, §5.2.1.
const ID: u32 = 2;

/// As Linux has for disks on PCI; each request takes one descriptor of it, with indirect ones.
const QUEUE_SIZE: u16 = 256;

/// Queues, and so threads, of one disk: few programs keep more requests than these waiting for it.
pub const QUEUES_MAX: u16 = 4;

/// Chains served before the worker sees to its other events: a request can take milliseconds.
const CHAINS_PER_KICK: usize = 16;

/// Bytes of a serial (§5.2.6, `VIRTIO_BLK_T_GET_ID`).
pub const SERIAL_BYTES_MAX: usize = blk::VIRTIO_BLK_ID_BYTES as usize;

/// A file to be a disk.
#[derive(Debug)]
pub struct Config {
    /// What errors and log lines call it, such as "volume data".
    pub name: String,
    /// A regular file or a block device, open for reading, and for writing unless `read_only`.
    pub file: File,
    /// The bytes of the file that are the disk; all of them by default.
    pub window: Option<Range<u64>>,
    /// The name that the guest finds the disk by, ASCII, which names the threads too.
    pub serial: String,
    /// Whether every change is refused.
    pub read_only: bool,
    /// Virtual CPUs of the machine, as many of which may wait for the disk at once.
    pub vcpus: u16,
    /// Counts what the guest does.
    pub counters: Arc<Counters>,
    /// How fast it may be used, by all queues together; none for as fast as it is.
    pub rate: Option<Rate>,
}

impl Config {
    /// Makes the file a disk of as many whole sectors as it has now.
    ///
    /// # Errors
    /// The serial is none, or the file holds no sector.
    pub fn open(self, memory: &Memory) -> anyhow::Result<Device> {
        let image = Image::open(self.file, self.window)
            .with_context(|| format!("cannot use {}", self.name))?;
        let traits = Traits {
            name: self.name,
            serial: self.serial,
            bytes: image.bytes(),
            read_only: self.read_only,
            can_discard: image.can_discard() && !self.read_only,
            queues: self.vcpus.clamp(1, QUEUES_MAX),
            counters: self.counters,
            rate: self.rate,
        };
        let medium: Box<dyn Medium> = if plan9::has(image.file()) {
            Box::new(Plan9(image))
        } else {
            Box::new(image)
        };
        assemble(&traits, medium, memory)
    }
}

/// What a driver is told of a disk.
struct Traits {
    name: String,
    serial: String,
    bytes: u64,
    read_only: bool,
    can_discard: bool,
    queues: u16,
    counters: Arc<Counters>,
    rate: Option<Rate>,
}

/// The device over any medium of `traits.bytes`.
fn assemble(traits: &Traits, medium: Box<dyn Medium>, memory: &Memory) -> anyhow::Result<Device> {
    let Traits { name, serial, .. } = traits;
    ensure!(
        serial.is_ascii() && (1..=SERIAL_BYTES_MAX).contains(&serial.len()),
        "cannot use {name}: a disk's serial has 1 to {SERIAL_BYTES_MAX} ASCII characters, is {serial:?}"
    );
    let sectors = traits.bytes / SECTOR_BYTES;
    ensure!(sectors > 0, "cannot use {name}: it holds not one sector");
    let facts = Facts {
        id: ID,
        name: format!("blk-{serial}"),
        features: features(traits),
        queue_sizes: vec![QUEUE_SIZE; traits.queues.into()],
        config: config::Space::new(sectors, traits.queues, traits.can_discard)
            .as_bytes()
            .to_vec(),
    };
    let disk = Arc::new(Disk::new(medium, sectors, traits));
    let throttles = match &traits.rate {
        Some(rate) => Throttle::for_queues(rate, traits.queues)?,
        None => Vec::new(),
    };
    let mut throttles = throttles.into_iter();
    let parts = (0..usize::from(traits.queues)).map(|queue| Part {
        queues: queue..queue.saturating_add(1),
        handler: Box::new(Blk {
            disk: disk.clone(),
            chain: Chain::new(memory),
            moderation: Moderation::default(),
            throttle: throttles.next(),
        }),
    });
    Ok(Device {
        facts,
        parts: parts.collect(),
    })
}

/// Bits of §5.2.3.
fn features(traits: &Traits) -> u64 {
    let always = [
        blk::VIRTIO_BLK_F_SEG_MAX,
        blk::VIRTIO_BLK_F_BLK_SIZE,
        blk::VIRTIO_BLK_F_TOPOLOGY,
        blk::VIRTIO_BLK_F_FLUSH,
        blk::VIRTIO_BLK_F_MQ,
    ];
    let read_only = traits.read_only.then_some(blk::VIRTIO_BLK_F_RO);
    let discard = [blk::VIRTIO_BLK_F_DISCARD, blk::VIRTIO_BLK_F_WRITE_ZEROES];
    let discard = discard.into_iter().filter(|_| traits.can_discard);
    always
        .into_iter()
        .chain(read_only)
        .chain(discard)
        .fold(0, |features, bit| features | 1 << bit)
}

/// Serves one queue.
struct Blk {
    disk: Arc<Disk>,
    chain: Chain,
    moderation: Moderation,
    throttle: Option<Throttle>,
}

impl Handler for Blk {
    fn kick(&mut self, index: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        let Some(queue) = queues.get_mut(index) else {
            return Ok(());
        };
        let mut served = false;
        for _ in 0..CHAINS_PER_KICK {
            if let Some(throttle) = &mut self.throttle
                && !throttle.lets_through()?
            {
                queue.park();
                break;
            }
            if !queue.pop_any(&mut self.chain)? {
                // The interrupt is raised after the return.
                if served && self.moderation.more_comes(|| queue.is_available()) {
                    continue;
                }
                break;
            }
            served = true;
            let written = request::serve(&self.disk, &mut self.chain)?;
            queue.push(&self.chain, written)?;
            if let Some(throttle) = &self.throttle {
                let read = self.chain.readable.consumed_bytes();
                throttle.pay(read.saturating_add(written));
            }
        }
        Ok(())
    }

    fn watch(&self) -> Vec<Watch> {
        self.throttle.iter().map(Throttle::watch).collect()
    }

    fn ready(&mut self, _: usize, queues: &mut [Queue]) -> Result<(), Fault> {
        if let Some(throttle) = &mut self.throttle {
            throttle.rearm()?;
        }
        self.kick(0, queues)
    }
}
