//! The machine: the parts that `app.json` asks for, put together and started.

use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, anyhow};
use devices::Memory;
use devices::virtio::fs::catalog::{self, Catalog};
use devices::virtio::fs::{self, Budget, Content, Owners};
pub use devices::virtio::fs::{Confinement, Counters, Wall};
use devices::virtio::roster::Roster;
use devices::virtio::{balloon, blk, console, net, rng, vsock};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};

use crate::app::{App, ConsoleMode, IMAGE_TAG, MAX_VCPUS};
use crate::board::Board;
use crate::boot::smbios::{self, Credential};
use crate::boot::{self, Initrd, acpi, initramfs, modules};
use crate::bundle::Bundle;
use crate::closure::StoreView;
use crate::console::{Console, log_file};
pub use crate::counts::Counts;
use crate::kvm::Vm;
use crate::pause::{self, Gate, Pause};
use crate::served::Served;
use crate::settle::{self, Boot, Booted};
use crate::shares::file_systems;
use crate::toplevel::{Toplevel, ensure_bootable};
use crate::vcpu::{Exit, Vcpu};
use crate::{cpuid, kernel, kvm, memory, volume};

/// The guest's address on its socket device: the first that has no meaning of its own (virtio 1.2
/// §5.10.4). Each machine has a device of its own, so that all guests can have the same.
pub const GUEST_CID: u32 = 3;

/// What a machine runs first.
pub struct Software<'a> {
    /// The kernel's file.
    pub kernel: &'a Path,
    /// The program that the guest runs first, static.
    pub init: &'a [u8],
    /// Added to the kernel's command line, before what `kernel.cmdline` adds.
    pub cmdline: &'a str,
    /// What the services of a system find in its SMBIOS tables.
    pub credentials: Vec<Credential<'a>>,
}

/// What a machine is made from besides its `app.json`.
pub struct Inputs<'a> {
    /// What it runs first.
    pub software: Software<'a>,
    /// Name of the port that init talks through.
    pub port_name: &'a str,
    /// The host's end of that port.
    pub port: UnixStream,
    /// What of the store the guest sees.
    pub store: &'a StoreView,
    /// What its root is made of, if that is an image.
    pub image: Option<Image>,
    /// Its network cards.
    pub cards: Vec<net::Config>,
    /// Where the kernel's messages go if `console.mode` is none.
    pub console: Option<Box<dyn Write + Send>>,
    /// Whom files belong to that this process makes: user and group.
    pub host_user: (u32, u32),
}

/// What a root is made of.
#[derive(Clone, Debug)]
pub enum Image {
    /// The tree that an image's layers come to.
    Tree(Arc<Catalog>),
    /// A folder of the host, which is not to change while the machine runs.
    Folder(PathBuf),
    /// A folder of the host that is the machine's root itself, with all that is mounted in it.
    Root(PathBuf),
}

impl Image {
    fn open(
        self,
        vcpus: u16,
        owners: Owners,
        memory: &Memory,
        budget: &Arc<Budget>,
    ) -> anyhow::Result<fs::Share> {
        let tag = IMAGE_TAG.into();
        match self {
            Self::Tree(catalog) => catalog::Config {
                tag,
                catalog,
                vcpus,
            }
            .open(memory),
            Self::Folder(root) => fs::Config {
                tag,
                root,
                content: Content::Immutable { filter: None },
                vcpus,
            }
            .open(memory, budget),
            Self::Root(root) => fs::Config {
                tag,
                content: Content::Writable {
                    timeout: Content::CHANGING_TIMEOUT,
                    owners,
                    closed: devices_of(&root),
                },
                root,
                vcpus,
            }
            .open(memory, budget),
        }
    }
}

/// A machine that is ready to run.
pub struct Machine {
    memory: Memory,
    vm: Vm,
    vcpus: Vec<Vcpu>,
    console: Console,
    shares: Vec<Share>,
    cards: Vec<Card>,
    disks: Vec<Disk>,
    vsock: vsock::Host,
    /// Guest memory that is the kernel's file.
    mapped: Vec<Range<u64>>,
    /// The virtio devices.
    roster: Arc<Roster>,
    served: Option<Served>,
}

impl Machine {
    /// Puts a machine together: the parts list. Nothing runs yet.
    ///
    /// # Errors
    /// A part cannot be had; the message names it.
    pub fn new(app: &App, inputs: Inputs<'_>) -> anyhow::Result<Self> {
        let vcpus = vcpus(app)?;
        if let (Some(system), None) = (&app.system, &app.bundle) {
            ensure_bootable(system).context("system.kernel")?;
        }
        let own = Toplevel::of(app)?;
        let memory = memory::allocate(app.memory_bytes())?;
        let vm = Vm::new(kvm::open()?, &memory)?;
        let mut board = Board::new(&vm, &memory);
        let mut shares = Vec::new();
        let mut add = |board: &mut Board<'_>, tag: String, share: fs::Share| {
            let (counters, wall) = (share.counters, share.wall);
            shares.push(Share {
                tag,
                counters,
                wall,
            });
            board.add(share.device)
        };

        board.add(console::open(&memory, inputs.port_name, inputs.port)?)?;
        let budget = Arc::new(Budget::for_memory(app.memory_bytes()));
        let owners = owners(app, inputs.host_user);
        let mut growing = None;
        for config in file_systems(app, own.as_ref(), vcpus, inputs.store, owners)? {
            let share = config.open(&memory, &budget)?;
            if let Some(filter) = config.content.growing() {
                growing = Some((filter.clone(), Arc::clone(&share.wall), board.devices()));
            }
            add(&mut board, config.tag, share)?;
        }
        if let Some((own, catalog)) = own.as_ref().and_then(|own| Some((own, own.store.clone()?))) {
            let (tag, vcpus) = (own.store_tag(), vcpus.into());
            let config = catalog::Config {
                tag,
                catalog,
                vcpus,
            };
            let share = config.open(&memory)?;
            add(&mut board, config.tag, share)?;
        }
        if let Some(image) = inputs.image {
            let share = image.open(vcpus.into(), owners, &memory, &budget)?;
            add(&mut board, IMAGE_TAG.into(), share)?;
        }
        let mut cards = Vec::new();
        for (nth, (card, interface)) in inputs.cards.into_iter().zip(app.interfaces()).enumerate() {
            cards.push(Card {
                name: interface.name(nth),
                counters: Arc::clone(&card.counters),
            });
            board.add(card.open(&memory)?)?;
        }
        let (device, vsock) = vsock::open(&memory, GUEST_CID)?;
        board.add(device)?;
        let mut disks = Vec::new();
        for disk in volume::disks(app, vcpus)? {
            disks.push(Disk {
                name: disk.serial.clone(),
                counters: Arc::clone(&disk.counters),
            });
            board.add(disk.open(&memory)?)?;
        }
        if let (StoreView::Bundle(path), None) = (inputs.store, &own) {
            let disk = Bundle::open(path)?.disk(vcpus.into())?;
            let disk = disk.with_context(|| format!("store: {} has none", path.display()))?;
            board.add(disk.open(&memory)?)?;
        }
        board.add(rng::open(&memory))?;
        // Who has as many shares as there is room for goes without.
        if board.has_room() {
            board.add(balloon::open(&memory))?;
        }

        let console = Console::new(console_sink(app)?.or(inputs.console));
        let acpi_root = acpi::write(&memory, vcpus, board.devices())?;
        let roster = board.roster();
        let bus = board.finish(Box::new(console.clone()))?;
        let served = growing
            .map(|(filter, wall, device)| Served::new(filter, wall, Arc::clone(&bus), device));
        let kernel = load(app, own.as_ref(), &inputs.software, &memory, acpi_root)?;
        let supported = cpuid::supported(&vm.kvm)?;
        let vcpus = (0..vcpus)
            .map(|id| {
                let cpuid = cpuid::for_vcpu(&supported, id, vcpus)?;
                Vcpu::new(&vm, id, &cpuid, &kernel.entry, bus.clone())
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        // Linux looks at most of its text at once, to adapt it to the processor, and at all it has to
        // start with.
        for range in &kernel.present {
            // Where KVM cannot, the pages come one by one.
            let _ = vcpus[0].pre_fault(range);
        }
        Ok(Self {
            memory,
            vm,
            vcpus,
            console,
            shares,
            cards,
            disks,
            vsock,
            mapped: kernel.mapped,
            roster,
            served,
        })
    }

    /// Starts the vCPUs. They run until the process ends: a machine is one process.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(self) -> anyhow::Result<(Running, Exits)> {
        let (exits, receiver) = mpsc::channel();
        pause::take_signal()?;
        let gate = Arc::new(Gate::default());
        let counts = self.vcpus.iter().map(Vcpu::counts).collect();
        let vcpus = self
            .vcpus
            .into_iter()
            .map(|vcpu| vcpu.start(exits.clone(), Arc::clone(&gate)))
            .collect::<anyhow::Result<_>>()?;
        let pause = Arc::new(Pause::new(gate, vcpus));
        let booted = settle::follow(Boot {
            memory: self.memory.clone(),
            mapped: self.mapped,
            roster: self.roster,
            pause: Arc::clone(&pause),
        })?;
        let running = Running {
            memory: self.memory,
            _vm: self.vm,
            booted,
            pause,
            counts,
            console: self.console,
            shares: self.shares,
            cards: self.cards,
            disks: self.disks,
            vsock: self.vsock,
            served: self.served,
        };
        Ok((running, Exits(receiver)))
    }
}

/// A machine that runs.
pub struct Running {
    /// Kept mapped as long as a vCPU may run.
    memory: Memory,
    _vm: Vm,
    /// To be told when its guest has booted.
    pub booted: Booted,
    /// How often each processor has left the guest.
    pub counts: Vec<Arc<Counts>>,
    /// Stops its processors.
    pub pause: Arc<Pause>,
    /// What the kernel says.
    pub console: Console,
    /// The store and the shares.
    pub shares: Vec<Share>,
    /// The network cards, in the order of app.json.
    pub cards: Vec<Card>,
    /// The volumes, in the order of app.json.
    pub disks: Vec<Disk>,
    /// Sockets between this process and the guest, whose address is [`GUEST_CID`].
    pub vsock: vsock::Host,
    /// The store of a system's closure.
    pub served: Option<Served>,
}

impl Running {
    /// Where in this process guest memory is mapped, as addresses.
    pub fn memory_ranges(&self) -> Vec<Range<u64>> {
        let range = |region: &GuestRegionMmap| {
            let start = region.as_ptr().expose_provenance() as u64;
            start..start + region.len()
        };
        self.memory.iter().map(range).collect()
    }
}

/// What can be told of a share while its guest uses it.
pub struct Share {
    /// Name that the guest mounts it by.
    pub tag: String,
    /// What the guest asked of it.
    pub counters: Arc<Counters>,
    /// What keeps its workers inside.
    pub wall: Arc<Wall>,
}

/// What can be told of a network card while its guest uses it.
pub struct Card {
    /// Name that the guest has for it, such as `eth0`.
    pub name: String,
    /// What went through it.
    pub counters: Arc<net::Counters>,
}

/// What can be told of a disk while its guest uses it.
pub struct Disk {
    /// What the guest finds it by, such as `volume0`.
    pub name: String,
    /// What the guest asked of it.
    pub counters: Arc<blk::Counters>,
}

/// Tells why a machine ended.
pub struct Exits(Receiver<Exit>);

impl Exits {
    /// Waits until the machine ends by itself.
    pub fn wait(&self) -> Exit {
        // A vCPU's thread reports even when it panics, so that the channel only closes after one
        // did.
        self.0
            .recv()
            .unwrap_or_else(|_| Exit::Failed(anyhow!("its vCPUs are gone")))
    }
}

/// The number of vCPUs; checked here too, since an [`App`] need not come from a file.
fn vcpus(app: &App) -> anyhow::Result<u8> {
    let vcpus = u8::try_from(app.vcpus)
        .ok()
        .filter(|vcpus| (1..=MAX_VCPUS).contains(&(*vcpus).into()));
    vcpus.with_context(|| format!("vcpus: must be 1 to {MAX_VCPUS}, is {}", app.vcpus))
}

/// The file system that a root has its devices in, if that is one of its own: a machine has others
/// in its place.
fn devices_of(root: &Path) -> Option<u64> {
    let device = |path: &Path| Some(std::fs::symlink_metadata(path).ok()?.dev());
    device(&root.join("dev")).filter(|dev| Some(*dev) != device(root))
}

/// Whose files are whose: the host's user is to the guest the one that its program runs as.
fn owners(app: &App, host_user: (u32, u32)) -> Owners {
    Owners::new(host_user, app.user().map_or((0, 0), |user| user.ids()))
}

/// Loads the kernel with its command line and its initramfs, behind which is that of the system that
/// brings its `own`.
fn load(
    app: &App,
    own: Option<&Toplevel>,
    software: &Software<'_>,
    memory: &Memory,
    acpi_root: u64,
) -> anyhow::Result<boot::Loaded> {
    let init = own.map_or(initramfs::INIT, |_| initramfs::INIT_BESIDE);
    let cmdline = kernel::cmdline(
        vcpus(app)?,
        app.console.kernel.loglevel(),
        init,
        &[
            own.map_or("", |own| &own.cmdline),
            software.cmdline,
            &app.kernel.cmdline,
        ],
    );
    let drivers = drivers(app);
    let modules = match own {
        Some(own) => own.modules(&drivers)?,
        None => modules::of_kernel(software.kernel, None, &drivers)?,
    };
    let initramfs = initramfs::of_init(init, software.init, &modules);
    let initrd = own.map(|own| Initrd::open(&own.initrd)).transpose()?;
    let given = boot::Given {
        cmdline: &cmdline,
        initramfs: &initramfs,
        initrd: initrd.as_ref(),
        acpi_root,
    };
    smbios::write(memory, &software.credentials)?;
    boot::load(memory, software.kernel, &given)
}

/// Modules for volumes. ext4 asks for its checksum by the algorithm's name.
pub(crate) const VOLUME_DRIVERS: [&str; 3] = ["virtio_blk", "crc32c_generic", "ext4"];

/// Modules that this machine needs besides what all do.
fn drivers(app: &App) -> Vec<&'static str> {
    let mut drivers = Vec::new();
    if !app.volumes.is_empty() {
        drivers.extend(VOLUME_DRIVERS);
    }
    if app.root.persist.is_some() || app.image.is_some() || app.store.writable.is_some() {
        drivers.push("overlay");
    }
    drivers
}

fn console_sink(app: &App) -> anyhow::Result<Option<Box<dyn Write + Send>>> {
    Ok(match (app.console.mode, &app.console.path) {
        (ConsoleMode::None, _) | (ConsoleMode::File, None) => None,
        (ConsoleMode::Stdio, _) => Some(Box::new(std::io::stderr())),
        (ConsoleMode::File, Some(path)) => Some(Box::new(log_file(path).context("console.path")?)),
    })
}
