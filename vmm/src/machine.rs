//! The machine: what `app.json` asks for, put together and started.

mod devices;

use std::io::Write;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use ::devices::Memory;
use ::devices::virtio::fs::NO_DAX;
use ::devices::virtio::fs::catalog::Catalog;
pub use ::devices::virtio::fs::{Confinement, Counters, Wall};
use ::devices::virtio::{blk, net, vsock};
use anyhow::{Context, anyhow};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _, GuestRegionMmap};

use self::devices::{Devices, Site};
use crate::app::{App, ConsoleMode, MAX_VCPUS, StoreData};
use crate::boot::smbios::{self, Credential};
use crate::boot::{self, Initrd, acpi, initramfs, modules, mp};
use crate::closure::StoreView;
use crate::console::{Console, log_file};
pub use crate::counts::Counts;
use crate::kvm::{Doorbell, Vm};
use crate::pause::{self, Gate, Pause};
use crate::served::Served;
use crate::settle::{self, Boot, Booted};
use crate::store::Given;
use crate::toplevel::{Toplevel, ensure_bootable, is_prepared_by_mvm};
use crate::vcpu::{Exit, Vcpu};
use crate::{cpuid, kernel, kvm, memory};

/// The guest's address on its socket device: the first that has no meaning of its own (virtio 1.2
/// §5.10.4). Each machine has a device of its own, so that all guests can have the same.
pub const GUEST_CID: u32 = 3;

/// What a machine runs first.
pub struct Software<'a> {
    /// The kernel's file.
    pub kernel: &'a Path,
    /// The program that the guest runs first, static.
    pub init: initramfs::Content,
    /// Added to the kernel's command line, before what `kernel.cmdline` adds.
    pub cmdline: &'a str,
    /// What the services of a system find in its SMBIOS tables.
    pub credentials: Vec<Credential<'a>>,
}

/// What a machine is made from besides its `app.json`.
pub struct Inputs<'a> {
    /// Name of the port that init talks through.
    pub port_name: &'a str,
    /// The host's end of that port.
    pub port: UnixStream,
    /// What of the store the guest sees.
    pub store: &'a StoreView,
    /// How the bytes of that come to it.
    pub store_given: Given,
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

/// A machine that is ready to run.
pub struct Machine {
    memory: Memory,
    vm: Vm,
    vcpus: Vec<Vcpu>,
    console: Console,
    devices: Devices,
    /// Guest memory that is the kernel's file.
    mapped: Vec<Range<u64>>,
    store_data: StoreData,
    store_reason: Option<String>,
}

impl Machine {
    /// Puts a machine together: the parts list. Nothing runs yet.
    ///
    /// # Errors
    /// A part cannot be had; the message names it.
    pub fn new(app: &App, software: Software<'_>, mut inputs: Inputs<'_>) -> anyhow::Result<Self> {
        let vcpus = vcpus(app)?;
        if let (Some(system), None) = (&app.system, &app.bundle) {
            ensure_bootable(system).context("system.kernel")?;
        }
        let own = Toplevel::of(app)?;
        let memory = memory::allocate(app.memory_bytes())?;
        let console = Console::new(console_sink(app)?.or(inputs.console.take()));
        let store_data = inputs.store_given.way.data();
        let store_reason = inputs.store_given.reason.take();
        let ((mut vm, vcpus), kernel, mut devices) = thread::scope(|scope| {
            // Who makes a virtual machine mostly waits, for the host's other processors.
            let processors = thread::Builder::new()
                .name("kvm".into())
                .spawn_scoped(scope, || processors(&memory, vcpus))
                .context("cannot start a thread")?;
            let drivers = drivers(app, store_data);
            let kernel = load(app, own.as_ref(), software, &drivers, &memory)?;
            let site = Site {
                app,
                own: own.as_ref(),
                memory: &memory,
                vcpus: vcpus.into(),
            };
            let devices = Devices::of(site, inputs, console.clone())?;
            acpi::write(&memory, vcpus, devices.virtio)?;
            mp::write(&memory, vcpus)?;
            let processors = processors.join();
            let processors = processors.map_err(|_| anyhow!("a thread panicked"))??;
            anyhow::Ok((processors, kernel, devices))
        })?;
        for line in &devices.wiring.lines {
            vm.wire_line(line)?;
        }
        for slot in devices.wiring.slots.drain(..) {
            vm.add_files(slot)?;
        }
        vcpus[0].enter_at(&kernel.entry)?;
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
            devices,
            mapped: kernel.mapped,
            store_data,
            store_reason,
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
        let Devices { bus, wiring, .. } = self.devices;
        let counts = self.vcpus.iter().map(Vcpu::counts).collect();
        let vcpus = self
            .vcpus
            .into_iter()
            .map(|vcpu| vcpu.start(Arc::clone(&bus), exits.clone(), Arc::clone(&gate)))
            .collect::<anyhow::Result<_>>()?;
        let vm = Arc::new(self.vm);
        wire(Arc::clone(&vm), wiring.doorbells)?;
        let pause = Arc::new(Pause::new(gate, vcpus));
        let booted = settle::follow(Boot {
            memory: self.memory.clone(),
            mapped: self.mapped,
            roster: self.devices.roster,
            pause: Arc::clone(&pause),
        })?;
        let running = Running {
            memory: self.memory,
            vm,
            booted,
            pause,
            counts,
            console: self.console,
            shares: self.devices.shares,
            cards: self.devices.cards,
            disks: self.devices.disks,
            vsock: self.devices.vsock,
            served: self.devices.served,
            store_data: self.store_data,
            store_reason: self.store_reason,
        };
        Ok((running, Exits(receiver)))
    }
}

/// A machine that runs.
pub struct Running {
    /// Kept mapped as long as a vCPU may run.
    memory: Memory,
    vm: Arc<Vm>,
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
    /// The way that it was given for the bytes of its store, which need not be as its file has it.
    pub store_data: StoreData,
    store_reason: Option<String>,
}

impl Running {
    /// How the bytes of its store come to it: in the way that it was given, unless its kernel has no use for
    /// that. And why, unless its file says so.
    pub fn store_in_use(&self) -> (StoreData, Option<&str>) {
        let mut counters = self.shares.iter().map(|share| &share.counters);
        if counters.any(|counters| counters.is_window_unused()) {
            return (StoreData::Plain, Some(NO_DAX));
        }
        (self.store_data, self.store_reason.as_deref())
    }

    /// Where in this process guest memory is mapped, files that are such included, as addresses.
    pub fn memory_ranges(&self) -> Vec<Range<u64>> {
        let range = |region: &GuestRegionMmap| {
            let start = region.as_ptr().expose_provenance() as u64;
            start..start + region.len()
        };
        let files = self.vm.files();
        self.memory.iter().map(range).chain(files).collect()
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

/// A virtual machine with this memory, and its processors.
fn processors(memory: &Memory, vcpus: u8) -> anyhow::Result<(Vm, Vec<Vcpu>)> {
    let vm = Vm::new(kvm::open()?, memory)?;
    let supported = cpuid::supported(&vm.kvm)?;
    let vcpus = (0..vcpus)
        .map(|id| Vcpu::new(&vm, id, &cpuid::for_vcpu(&supported, id, vcpus)?))
        .collect::<anyhow::Result<_>>()?;
    Ok((vm, vcpus))
}

/// Has KVM take kicks, while the guest boots. Until it does, and where it has no room, a kick is an
/// exit that rings the same bell.
fn wire(vm: Arc<Vm>, doorbells: Vec<Doorbell>) -> anyhow::Result<()> {
    thread::Builder::new()
        .name("doorbells".into())
        .spawn(move || doorbells.iter().try_for_each(|bell| vm.wire_doorbell(bell)))
        .context("cannot start a thread")?;
    Ok(())
}

/// Loads the kernel with its command line and its initramfs, behind which is that of the system that
/// brings its `own`.
fn load(
    app: &App,
    own: Option<&Toplevel>,
    software: Software<'_>,
    drivers: &[&'static str],
    memory: &Memory,
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
    let modules = match own {
        Some(own) => own.modules(drivers)?,
        None => modules::of_kernel(software.kernel, None, drivers)?,
    };
    let initramfs = initramfs::of_init(init, software.init, modules)?;
    let initrd = own.map(|own| Initrd::open(&own.initrd)).transpose()?;
    let given = boot::Given {
        cmdline: &cmdline,
        initramfs: &initramfs,
        initrd: initrd.as_ref(),
    };
    smbios::write(memory, &software.credentials)?;
    boot::load(memory, software.kernel, &given)
}

/// Modules for volumes. ext4 asks for its checksum by the algorithm's name.
pub(crate) const VOLUME_DRIVERS: [&str; 3] = ["virtio_blk", "crc32c_generic", "ext4"];

/// Modules that this machine needs besides what all do.
fn drivers(app: &App, store_data: StoreData) -> Vec<&'static str> {
    let mut drivers = Vec::new();
    if !app.volumes.is_empty() {
        drivers.extend(VOLUME_DRIVERS);
    }
    if store_data == StoreData::Image {
        drivers.extend(modules::MEMORY_DISK_MODULES);
    }
    if app.root.persist.is_some() || app.image.is_some() || app.store.writable.is_some() {
        drivers.push("overlay");
    }
    if app.system.as_ref().is_some_and(is_prepared_by_mvm) {
        // Its /etc.
        drivers.extend(["loop", "erofs", "overlay"]);
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
