//! A virtual CPU: its state at boot, and the loop that answers its exits.
//!
//! A vCPU's thread does nothing but run the guest and answer port and memory accesses that no
//! eventfd takes. Why the machine ends is a message to whoever waits for it.
#![expect(
    unsafe_code,
    reason = "KVM reports a failed emulation through a union; a request"
)]

use std::ffi::c_ulong;
use std::io;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use devices::power;
use kvm_bindings::kvm_run__bindgen_ty_1__bindgen_ty_14 as EmulationFailure;
use kvm_bindings::{
    CpuId, KVMIO, kvm_fpu, kvm_msr_entry, kvm_pre_fault_memory, kvm_regs, kvm_segment, kvm_sregs,
    kvm_xcrs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use rustix::io::Errno;
use vmm_sys_util::ioctl::{_IOC_READ, _IOC_WRITE, ioctl_expr, ioctl_with_mut_ref};

use crate::boot::{self, Entry};
use crate::bus::Bus;
use crate::counts::{Counts, Reason};
use crate::cpuid;
use crate::kvm::Vm;
use crate::layout;
use crate::pause::Gate;

/// `KVM_INTERNAL_ERROR_EMULATION`.
const EMULATION: u32 = 1;
/// `KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES`.
const HAS_INSTRUCTION: u64 = 1;

/// `KVM_PRE_FAULT_MEMORY`, which kvm-ioctls does not have yet.
const KVM_PRE_FAULT_MEMORY: c_ulong = ioctl_expr(
    _IOC_READ | _IOC_WRITE,
    KVMIO,
    0xd5,
    size_of::<kvm_pre_fault_memory>() as u32,
);

/// Why a machine ended.
#[derive(Debug)]
pub enum Exit {
    /// The guest switched itself off.
    Off,
    /// The guest asked for a reset, or shut down by a triple fault.
    Reset,
    /// KVM could not go on.
    Failed(anyhow::Error),
}

/// A vCPU that does not run yet.
pub struct Vcpu {
    id: u8,
    fd: VcpuFd,
    counts: Arc<Counts>,
}

impl Vcpu {
    /// The vCPU number `id`, which waits for the guest to wake it.
    ///
    /// # Errors
    /// KVM refuses it.
    pub fn new(vm: &Vm, id: u8, cpuid: &CpuId) -> anyhow::Result<Self> {
        let fd = vm
            .fd
            .create_vcpu(id.into())
            .with_context(|| format!("cannot create vCPU {id}"))?;
        fd.set_cpuid2(cpuid)
            .with_context(|| format!("cannot set the CPUID of vCPU {id}"))?;
        enable_states(&fd, cpuid);
        Ok(Self {
            id,
            fd,
            counts: Arc::default(),
        })
    }

    /// Makes it the boot CPU, which starts at `entry`.
    ///
    /// # Errors
    /// KVM refuses its state.
    pub fn enter_at(&self, entry: &Entry) -> anyhow::Result<()> {
        set_boot_state(&self.fd, entry).context("cannot set the state of the boot CPU")
    }

    /// How often it has left the guest.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Maps guest memory into the page tables that the processor translates guest addresses with,
    /// all at once: otherwise the first access to each page is an exit.
    ///
    /// # Errors
    /// KVM cannot (before Linux 6.11, or without such page tables); the exits remain.
    pub fn pre_fault(&self, range: &Range<u64>) -> io::Result<()> {
        let mut request = kvm_pre_fault_memory {
            gpa: range.start,
            size: range.end - range.start,
            ..kvm_pre_fault_memory::default()
        };
        // It tells how far it came.
        while request.size > 0 {
            let left = request.size;
            // SAFETY: the descriptor is a vCPU's, and the structure is what this request takes.
            let result =
                unsafe { ioctl_with_mut_ref(&self.fd, KVM_PRE_FAULT_MEMORY, &mut request) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
            if request.size >= left {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Starts the vCPU's thread, which reaches devices by `bus`, waits at `gate` while the machine is
    /// paused, and reports through `exits` why it ended.
    ///
    /// # Errors
    /// The host has no thread left.
    pub fn start(
        mut self,
        bus: Arc<Bus>,
        exits: Sender<Exit>,
        gate: Arc<Gate>,
    ) -> anyhow::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(format!("vcpu{}", self.id))
            .spawn(move || {
                let exit = outcome(|| self.run(&bus, &gate));
                // Nobody waits any more when the machine ended otherwise.
                let _ = exits.send(exit);
            })
            .context("cannot start a vCPU's thread")
    }

    fn run(&mut self, bus: &Bus, gate: &Gate) -> anyhow::Result<Exit> {
        loop {
            let exit = self.fd.run();
            self.counts.count(reason(&exit));
            match exit {
                Ok(VcpuExit::IoIn(port, data)) => bus.port_read(port, data),
                Ok(VcpuExit::IoOut(port, data)) => match bus.port_write(port, data) {
                    Some(power::Request::Off) => return Ok(Exit::Off),
                    Some(power::Request::Reset) => return Ok(Exit::Reset),
                    None => {}
                },
                Ok(VcpuExit::MmioRead(gpa, data)) => bus.read(gpa, data),
                Ok(VcpuExit::MmioWrite(gpa, data)) => bus.write(gpa, data),
                Ok(VcpuExit::Shutdown) => return Ok(Exit::Reset),
                Ok(VcpuExit::Intr) => self.pass(gate),
                Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => {}
                Ok(VcpuExit::MemoryFault { .. }) => return Err(self.unreadable()),
                Ok(VcpuExit::InternalError) => return Err(self.internal_error()),
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return Err(anyhow!(
                        "the CPU refused to run the guest (reason {reason:#x})"
                    ));
                }
                Ok(other) => return Err(anyhow!("KVM stopped the guest: {other:?}")),
                Err(error) if is_interruption(error) => self.pass(gate),
                Err(error) if error.errno() == Errno::FAULT.raw_os_error() => {
                    return Err(self.unreadable());
                }
                Err(error) => return Err(self.run_error(error)),
            }
        }
    }

    fn pass(&mut self, gate: &Gate) {
        if gate.pass() {
            // So that the guest takes the pause for no lockup of its own; one without kvmclock may.
            let _ = self.fd.kvmclock_ctrl();
        }
    }

    /// `KVM_EXIT_INTERNAL_ERROR`: mostly an instruction that KVM had to emulate and cannot.
    fn internal_error(&mut self) -> anyhow::Error {
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, for which KVM fills this member;
        // it is plain data, valid for any bytes.
        let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
        internal_error(&failure, self.rip())
    }

    fn run_error(&mut self, error: kvm_ioctls::Error) -> anyhow::Error {
        let rip = self.rip();
        anyhow::Error::new(error).context(format!("cannot run the guest at rip {rip:#x}"))
    }

    /// Memory of the guest that the host has not.
    fn unreadable(&mut self) -> anyhow::Error {
        let rip = self.rip();
        anyhow!(
            "cannot run the guest at rip {rip:#x}: a file that is mapped for it, of the store or its \
             kernel's, was cut short or cannot be read, or the host has no memory left"
        )
    }

    fn rip(&self) -> u64 {
        self.fd.get_regs().map_or(0, |regs| regs.rip)
    }
}

/// The text of `KVM_EXIT_INTERNAL_ERROR` for a guest at `rip`.
fn internal_error(failure: &EmulationFailure, rip: u64) -> anyhow::Error {
    // SAFETY: plain data, valid for any bytes; KVM wrote it when the flag says so.
    let instruction = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
    let what = if failure.suberror != EMULATION {
        format!("failed inside (suberror {})", failure.suberror)
    } else if failure.ndata >= 1 && failure.flags & HAS_INSTRUCTION != 0 {
        let size = usize::from(instruction.insn_size).min(instruction.insn_bytes.len());
        let bytes: Vec<_> = instruction.insn_bytes[..size]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("cannot emulate the instruction {}", bytes.join(" "))
    } else {
        "cannot emulate an instruction".into()
    };
    anyhow!(
        "KVM {what} at rip {rip:#x}; this KVM is not backed by hardware, or lacks a feature that \
         the guest's kernel uses: try --accel emulated"
    )
}

/// Why a vCPU's loop ended, also where it panicked: the other vCPUs run on by themselves, so this
/// is all that ends the machine then.
fn outcome(run: impl FnOnce() -> anyhow::Result<Exit>) -> Exit {
    // What the loop left half done is not used again.
    panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(anyhow!("a vCPU's thread panicked")))
        .unwrap_or_else(Exit::Failed)
}

fn reason(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Reason {
    match exit {
        Ok(VcpuExit::IoIn(..)) => Reason::PortRead,
        Ok(VcpuExit::IoOut(..)) => Reason::PortWrite,
        Ok(VcpuExit::MmioRead(..)) => Reason::MemoryRead,
        Ok(VcpuExit::MmioWrite(..)) => Reason::MemoryWrite,
        Ok(VcpuExit::Hlt) => Reason::Halt,
        Ok(VcpuExit::Intr) => Reason::Interruption,
        Err(error) if is_interruption(*error) => Reason::Interruption,
        _ => Reason::Other,
    }
}

/// A signal arrived, or KVM wants to be called again.
fn is_interruption(error: kvm_ioctls::Error) -> bool {
    [Errno::INTR, Errno::AGAIN]
        .map(Errno::raw_os_error)
        .contains(&error.errno())
}

/// Has the vCPU begin with all processor states enabled that XSAVE keeps (XCR0, Intel SDM 13.3), as
/// its guest will. KVM tells a guest their size by what it knows to be enabled, and where SVM is
/// emulated it does not see the guest enable them: Linux would find the size wrong and go without AVX.
fn enable_states(fd: &VcpuFd, cpuid: &CpuId) {
    let Some(states) = cpuid::extended_states(cpuid) else {
        return;
    };
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..kvm_xcrs::default()
    };
    xcrs.xcrs[0].value = states;
    // Where KVM will not, the guest begins as on a processor.
    let _ = fd.set_xcrs(&xcrs);
}

/// Long mode with paging on, flat segments, interrupts off: what the 64-bit boot protocol asks.
fn set_boot_state(fd: &VcpuFd, entry: &Entry) -> anyhow::Result<()> {
    let mut sregs = fd.get_sregs()?;
    set_mode(&mut sregs, entry.cr3);
    fd.set_sregs(&sregs)?;
    fd.set_regs(&kvm_regs {
        rip: entry.rip,
        rsi: entry.rsi,
        // The bit that is always set.
        rflags: 2,
        ..kvm_regs::default()
    })?;
    // As after `fninit` and on reset.
    fd.set_fpu(&kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..kvm_fpu::default()
    })?;
    // MTRRs on, write-back by default: without it Linux warns, and would map memory uncached.
    let mtrr = kvm_msr_entry {
        index: 0x2ff,
        data: 1 << 11 | 6,
        ..kvm_msr_entry::default()
    };
    let msrs = kvm_bindings::Msrs::from_entries(&[mtrr])
        .map_err(|error| anyhow!("cannot list MSRs: {error:?}"))?;
    fd.set_msrs(&msrs)?;
    Ok(())
}

fn set_mode(sregs: &mut kvm_sregs, cr3: u64) {
    let [code, data, task] = boot::SEGMENTS.map(segment);
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = task;
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 0x27;
    sregs.idt.limit = 0;
    sregs.cr3 = cr3;
    // PE and PG; PAE; LME and LMA.
    sregs.cr0 |= 1 | 1 << 31;
    sregs.cr4 |= 1 << 5;
    sregs.efer |= 1 << 8 | 1 << 10;
}

fn segment(segment: boot::Segment) -> kvm_segment {
    // Code or data, but for the task state.
    let system = segment.kind == 0xb && !segment.long;
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: segment.selector,
        type_: segment.kind,
        present: 1,
        dpl: 0,
        db: u8::from(!segment.long),
        s: u8::from(!system),
        l: u8::from(segment.long),
        g: 1,
        ..kvm_segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &str = "this KVM is not backed by hardware, or lacks a feature that the guest's \
                        kernel uses: try --accel emulated";

    /// `vmovaps` of 256 bits, with bytes behind it that KVM fetched in vain.
    fn failure() -> EmulationFailure {
        let mut failure = EmulationFailure {
            suberror: EMULATION,
            ndata: 3,
            flags: HAS_INSTRUCTION,
            ..EmulationFailure::default()
        };
        let mut insn_bytes = [0xcc; 15];
        insn_bytes[..4].copy_from_slice(&[0xc5, 0xfc, 0x28, 0x06]);
        failure.__bindgen_anon_1.__bindgen_anon_1.insn_size = 4;
        failure.__bindgen_anon_1.__bindgen_anon_1.insn_bytes = insn_bytes;
        failure
    }

    fn text(failure: &EmulationFailure) -> String {
        let text = internal_error(failure, 0xffff_8100).to_string();
        let (what, hint) = text.split_once(" at rip 0xffff8100; ").unwrap();
        assert_eq!(hint, HINT);
        what.into()
    }

    #[test]
    fn what_kvm_cannot_emulate_is_told_in_bytes() {
        let mut failure = failure();
        assert_eq!(
            text(&failure),
            "KVM cannot emulate the instruction c5 fc 28 06"
        );
        // More bytes than an instruction has: the kernel's mistake is no panic.
        failure.__bindgen_anon_1.__bindgen_anon_1.insn_size = 200;
        assert!(text(&failure).ends_with(" 28 06 cc cc cc cc cc cc cc cc cc cc cc"));
    }

    #[test]
    fn bytes_that_kvm_did_not_give_are_not_told() {
        let unflagged = EmulationFailure {
            flags: 0,
            ..failure()
        };
        let empty = EmulationFailure {
            ndata: 0,
            ..failure()
        };
        for failure in [unflagged, empty] {
            assert_eq!(text(&failure), "KVM cannot emulate an instruction");
        }
    }

    #[test]
    fn another_internal_error_is_told_by_its_number() {
        let delivery = EmulationFailure {
            suberror: 3,
            ..failure()
        };
        assert_eq!(text(&delivery), "KVM failed inside (suberror 3)");
    }

    #[test]
    fn a_vcpu_reports_how_it_ended() {
        assert!(matches!(outcome(|| Ok(Exit::Off)), Exit::Off));
        let failed = outcome(|| Err(anyhow!("no luck")));
        assert!(matches!(failed, Exit::Failed(error) if error.to_string() == "no luck"));
    }

    #[test]
    fn a_vcpu_that_panics_ends_the_machine_although_others_run_on() {
        let (exits, receiver) = std::sync::mpsc::channel();
        let _another_vcpu = exits.clone();
        let vcpu = thread::spawn(move || exits.send(outcome(|| panic!("boom"))));
        let Ok(Exit::Failed(error)) = receiver.recv() else {
            panic!("a panic is a failure");
        };
        assert_eq!(error.to_string(), "a vCPU's thread panicked");
        vcpu.join().unwrap().unwrap();
    }
}
