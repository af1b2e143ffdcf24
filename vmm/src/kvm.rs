//! KVM: the virtual machine, its memory slots and interrupt wiring.
//!
//! Every ioctl on a VM is here, those on a vCPU in [`crate::vcpu`].
#![expect(unsafe_code, reason = "memory slots hand host memory to the kernel")]

use std::io;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Context;
use devices::Memory;
use devices::virtio::region::Region;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::{layout, memory};

/// What `KVM_GET_API_VERSION` has returned since Linux 2.6.22.
pub const API_VERSION: i32 = 12;

/// Opens `/dev/kvm`.
///
/// # Errors
/// Says what to do where there is something to do.
pub fn open() -> anyhow::Result<Kvm> {
    let kvm = Kvm::new().map_err(|error| {
        let error = io::Error::from(error);
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; is virtualisation enabled in the firmware, and the module kvm_intel or kvm_amd loaded?",
            io::ErrorKind::PermissionDenied => "; is this user in the group kvm? (usermod -aG kvm NAME)",
            _ => "",
        };
        anyhow::anyhow!("cannot open /dev/kvm: {error}{hint}")
    })?;
    // It never changes, and is to be checked all the same.
    anyhow::ensure!(
        kvm.get_api_version() == API_VERSION,
        "cannot use /dev/kvm: it is not KVM"
    );
    Ok(kvm)
}

/// An event that raises an interrupt (irqfd).
pub struct Line {
    /// The interrupt's number.
    pub gsi: u32,
    /// Raises it when it is written.
    pub event: EventFd,
}

/// A register whose writes are events (ioeventfd).
pub struct Doorbell {
    /// The register's address, guest-physical.
    pub register: u64,
    /// The value that rings it: a queue's number.
    pub queue: u32,
    /// Rung by it.
    pub kick: EventFd,
}

/// Files that are memory of the guest, which it can only read.
pub struct Slot {
    /// Where the guest has them.
    pub gpa: u64,
    /// The files.
    pub region: Arc<Region>,
}

/// A virtual machine in the kernel.
pub struct Vm {
    /// The system handle.
    pub kvm: Kvm,
    /// The machine's handle.
    pub fd: VmFd,
    /// Memory slots in use.
    slots: u32,
    /// Mapped as long as the machine may run.
    regions: Vec<Arc<Region>>,
}

impl Vm {
    /// A machine with `memory` and the interrupt controllers of a PC.
    ///
    /// # Errors
    /// A capability is missing or the host is out of memory.
    pub fn new(kvm: Kvm, memory: &Memory) -> anyhow::Result<Self> {
        for (capability, name) in [
            (Cap::Irqchip, "an interrupt controller"),
            (Cap::Irqfd, "irqfd"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::UserMemory, "user memory"),
            (Cap::ImmediateExit, "immediate exit"),
        ] {
            anyhow::ensure!(
                kvm.check_extension(capability),
                "cannot use /dev/kvm: it lacks {name}"
            );
        }
        let fd = create_vm(&kvm).context("cannot create a virtual machine")?;
        fd.set_tss_address(layout::KVM_TSS)
            .context("cannot place KVM's task state")?;
        fd.create_irq_chip()
            .context("cannot create an interrupt controller")?;
        let mut vm = Self {
            kvm,
            fd,
            slots: 0,
            regions: Vec::new(),
        };
        vm.add_memory(memory)?;
        Ok(vm)
    }

    fn add_memory(&mut self, memory: &Memory) -> anyhow::Result<()> {
        for (gpa, host, bytes) in memory::regions(memory) {
            // Kept mapped by `Machine`, and reached by Rust through volatile accesses only.
            self.add_slot(gpa, host..host + bytes, 0)?;
        }
        Ok(())
    }

    /// Gives the machine files as memory, which it reads; what it writes there is ignored.
    ///
    /// # Errors
    /// KVM has no read-only memory, the host is out of memory, or the guest has something there.
    pub fn add_files(&mut self, Slot { gpa, region }: Slot) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.kvm.check_extension(Cap::ReadonlyMem),
            "cannot map files for the guest: /dev/kvm lacks read-only memory"
        );
        self.add_slot(gpa, region.addresses(), KVM_MEM_READONLY)?;
        self.regions.push(region);
        Ok(())
    }

    /// Where in this process the files are that it was given, as addresses.
    pub fn files(&self) -> impl Iterator<Item = Range<u64>> {
        self.regions.iter().map(|region| region.addresses())
    }

    fn add_slot(&mut self, gpa: u64, host: Range<u64>, flags: u32) -> anyhow::Result<()> {
        let region = kvm_userspace_memory_region {
            slot: self.slots,
            guest_phys_addr: gpa,
            memory_size: host.end - host.start,
            userspace_addr: host.start,
            flags,
        };
        // SAFETY: the range stays mapped as long as the VM's handle is open, as all callers see to, and
        // no reference of Rust leads into it.
        unsafe { self.fd.set_user_memory_region(region) }
            .context("cannot give memory to the machine")?;
        self.slots += 1;
        Ok(())
    }

    /// Has an event raise its interrupt.
    ///
    /// # Errors
    /// The host is out of memory.
    pub fn wire_line(&self, line: &Line) -> anyhow::Result<()> {
        self.fd
            .register_irqfd(&line.event, line.gsi)
            .context("cannot wire an interrupt")
    }

    /// Has a kick ring without an exit. The host's kernel makes its caller wait for the machine's
    /// processors.
    ///
    /// # Errors
    /// The host is out of memory, or KVM has no room for more of them.
    pub fn wire_doorbell(&self, doorbell: &Doorbell) -> anyhow::Result<()> {
        let register = IoEventAddress::Mmio(doorbell.register);
        self.fd
            .register_ioevent(&doorbell.kick, &register, doorbell.queue)
            .with_context(|| format!("cannot wire queue {}", doorbell.queue))
    }
}

/// A signal that arrives while the kernel takes the locks of the process's whole address space makes
/// it give up; by then the signal has been handled.
fn create_vm(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            created => return created,
        }
    }
}
