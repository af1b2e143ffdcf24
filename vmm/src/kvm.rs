//! KVM: the virtual machine, its memory slots and interrupt wiring.
//!
//! Every ioctl on a VM is here, those on a vCPU in [`crate::vcpu`].
#![expect(unsafe_code, reason = "memory slots hand host memory to the kernel")]

use std::io;

use anyhow::Context;
use devices::Memory;
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::memory::composed::Composed;
use crate::{layout, memory};

/// Guest memory has the first two.
const READ_ONLY_SLOT: u32 = 2;

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

/// A virtual machine in the kernel.
pub struct Vm {
    /// The system handle.
    pub kvm: Kvm,
    /// The machine's handle.
    pub fd: VmFd,
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
        let fd = kvm.create_vm().context("cannot create a virtual machine")?;
        fd.set_tss_address(layout::KVM_TSS)
            .context("cannot place KVM's task state")?;
        fd.create_irq_chip()
            .context("cannot create an interrupt controller")?;
        let vm = Self { kvm, fd };
        vm.add_memory(memory)?;
        Ok(vm)
    }

    fn add_memory(&self, memory: &Memory) -> anyhow::Result<()> {
        for (slot, (gpa, host, bytes)) in (0..).zip(memory::regions(memory)) {
            let region = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: gpa,
                memory_size: bytes,
                userspace_addr: host,
                flags: 0,
            };
            // SAFETY: the range is guest memory, which `Machine` keeps mapped as long as the VM's
            // handle is open, and which Rust reaches through volatile accesses only.
            unsafe { self.fd.set_user_memory_region(region) }
                .context("cannot give memory to the machine")?;
        }
        Ok(())
    }

    /// Adds memory behind that of the machine, which the guest reads; what it writes there is ignored.
    ///
    /// # Errors
    /// KVM has no such memory, or it lies where there is some already.
    pub fn add_read_only(&self, gpa: u64, memory: &Composed) -> anyhow::Result<()> {
        let region = kvm_userspace_memory_region {
            slot: READ_ONLY_SLOT,
            guest_phys_addr: gpa,
            memory_size: memory.bytes(),
            userspace_addr: memory.host(),
            flags: KVM_MEM_READONLY,
        };
        // SAFETY: the range is mapped as long as `memory` lives, which `Machine` keeps as long as the
        // VM's handle is open, and nothing in this process reads or writes it.
        unsafe { self.fd.set_user_memory_region(region) }
            .context("cannot give the store's image to the machine")
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
