//! The emulated host as a QEMU process: its command line, its start and its end.
//!
//! The one thing to know: the processor is emulated (TCG), nested SVM included, so the KVM of our
//! own kernel inside works as on hardware. QEMU dies with the process that started it: it is
//! executed by a child that has asked the kernel for that.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, Result, anyhow, ensure};
use guest::protocol::PORT_NAME;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use vmm::boot::initramfs;
use vmm::inherited::socket_pair;
use vmm::kernel;
use vmm::settings::Setting;

use super::files::{fsdev, shares};
use super::folder::Folder;
use super::tsc;
use super::{network, ports};
use crate::init_binary;

/// The emulator, and the Debian package that has it.
const QEMU: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Least memory of the emulated host in MiB: its own kernel and a machine.
const MIN_MEMORY_MIB: u64 = 256;
/// Half of the host's memory within these bounds: enough for a few machines, and not much more,
/// since each GiB adds 0.1 s to the start (the kernel prepares the description of every page).
const MEMORY_MIB: RangeInclusive<u64> = 2048..=8192;

/// One for each of the host's within these bounds: a machine with several processors starts even
/// where one core has to emulate them all; each further one adds to the start.
const CPUS: RangeInclusive<usize> = 2..=8;

/// The kernel's command line.
const CMDLINE: [&str; 17] = [
    "console=ttyS0",
    // Only what ends it: KVM reports registers that it does not have at each start of a guest.
    "quiet",
    "loglevel=3",
    // Ends QEMU, through -no-reboot.
    "panic=-1",
    // Else the clock source stays `tsc-early` and idle guests of the guest miss their wake-ups.
    "tsc=reliable",
    // Emulated time: the check of the timer interrupt waits for ten ticks.
    "no_timer_check",
    "random.trust_cpu=on",
    // Delays are made with the time stamp counter; each processor would measure loops all the same.
    "lpj=10000000",
    "8250.nr_uarts=1",
    // Nobody attacks an emulated processor's caches.
    "mitigations=off",
    // QEMU translates a program's code for each address that it sees it at: where that differs at each
    // start, it translates some seven thousand blocks before mvm has read a file.
    "norandmaps",
    // Work that is asked for at idle is done while the last command's output is being read.
    "nowatchdog",
    "audit=0",
    // Nested paging of machines inside works on 2 MiB pages only where their memory has such.
    "transparent_hugepage=always",
    // A page is cleared by 512 repetitions of one instruction where the processor is good at that, as
    // QEMU is not.
    "clearcpuid=rep_good",
    // Guests run on the other processors: restoring the FPU's state on any of them makes QEMU write
    // the first one's flags (`cpu_clear_ignne`), from another thread and without a lock. Where the
    // first one enters or leaves a guest just then, it goes on with nested paging or interrupts the
    // wrong way round, about once in a hundred starts, and the guest or its host is lost.
    "isolcpus=0",
    "rdinit=/init",
];

/// What is decided before the start.
#[derive(Debug)]
pub struct Plan {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Processors for machines; the emulated host has one more, for itself.
    pub cpus: usize,
    tsc_khz: u64,
    initramfs: PathBuf,
    log: PathBuf,
}

/// QEMU, and the host's ends of its sockets.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Child,
    /// To the agent.
    pub agent: UnixStream,
    /// Where machines inside ask for ports of the host.
    pub ports: UnixStream,
    /// To the agent that carries connections to those ports inside.
    pub carrier: UnixStream,
}

impl Plan {
    /// Looks for all that is needed, and writes the initramfs.
    ///
    /// # Errors
    /// QEMU, the kernel or the guest's program is missing.
    pub fn new(folder: &Folder) -> Result<Self> {
        ensure_qemu(&env::var_os("PATH").unwrap_or_default())?;
        let kernel = kernel::find_own()?;
        let init = init_binary::find()?;
        let archive =
            initramfs::of_init(initramfs::INIT, init_binary::open_file(&init)?, Vec::new())?;
        let path = folder.initramfs();
        let mut file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        archive
            .write(&mut file)
            .with_context(|| format!("cannot copy {} to {}", init.display(), path.display()))?;
        Ok(Self {
            kernel,
            memory_mib: memory_mib()?,
            cpus: available_parallelism()
                .map_or(1, NonZero::get)
                .clamp(*CPUS.start(), *CPUS.end()),
            tsc_khz: tsc::khz(),
            initramfs: path,
            log: folder.log(),
        })
    }

    /// Starts QEMU.
    pub fn start(&self) -> Result<Started> {
        let (agent, agent_there) = socket_pair()?;
        let (ports, ports_there) = socket_pair()?;
        let (carrier, carrier_there) = socket_pair()?;
        let log = open_log(&self.log)?;
        let process = Command::new(env::current_exe().context("cannot tell where mvm is")?)
            .args(["emulator", "machine", "--parent"])
            .arg(std::process::id().to_string())
            .arg("--")
            .args(self.arguments(&agent_there, &ports_there, &carrier_there))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the emulator")?;
        Ok(Started {
            process,
            agent,
            ports,
            carrier,
        })
    }

    fn arguments(&self, agent: &OwnedFd, ports: &OwnedFd, carrier: &OwnedFd) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        add(&[
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        add(&[
            "-name",
            "mvm-emulator",
            "-M",
            "q35",
            "-accel",
            "tcg,thread=multi",
        ]);
        // It does nothing but start the kernel, where SeaBIOS looks for disks and keys first.
        add(&["-bios", "qboot.rom"]);
        // `check=off`: no lines about features of that processor which TCG lacks.
        add(&["-cpu", "EPYC-Rome,+svm,+npt,check=off"]);
        add(&[
            "-smp",
            &(self.cpus + 1).to_string(),
            "-m",
            &self.memory_mib.to_string(),
        ]);
        let cmdline = format!("{} tsc_early_khz={}", CMDLINE.join(" "), self.tsc_khz);
        add(&["-append", &cmdline, "-kernel"]);
        arguments.push(self.kernel.clone().into());
        arguments.push("-initrd".into());
        arguments.push(self.initramfs.clone().into());
        let mut add = |words: &[String]| arguments.extend(words.iter().map(OsString::from));
        add(&[
            "-chardev".into(),
            format!("file,id=log,path={},append=on", option(&self.log)),
        ]);
        add(&["-serial".into(), "chardev:log".into()]);
        add(&["-device".into(), "virtio-rng-pci".into()]);
        // The first of the four is a console's, and stays empty.
        add(&["-device".into(), "virtio-serial-pci,max_ports=4".into()]);
        for (id, name, socket) in [
            ("agent", PORT_NAME, agent),
            ("ports", ports::PORT_NAME, ports),
            ("carrier", ports::CARRIER_NAME, carrier),
        ] {
            let socket = socket.as_raw_fd();
            add(&["-chardev".into(), format!("socket,id={id},fd={socket}")]);
            let port = format!("virtserialport,chardev={id},name={name}");
            add(&["-device".into(), port]);
        }
        add(&network::arguments());
        for (tag, path) in shares() {
            add(&["-fsdev".into(), fsdev(tag, path)]);
            add(&[
                "-device".into(),
                format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
            ]);
        }
        arguments
    }
}

/// Carries `mvm emulator machine` out: becomes QEMU, which dies with `parent`.
pub fn become_qemu(parent: u32, arguments: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be tied to the parent")?;
    // It may have ended before the kernel was asked.
    let is_parent = |pid: Pid| pid.as_raw_pid().cast_unsigned() == parent;
    ensure!(
        getppid().is_some_and(is_parent),
        "the emulated host has ended"
    );
    let error = Command::new(QEMU).args(arguments).exec();
    Err(error).with_context(|| format!("cannot execute {QEMU}"))
}

/// A path as a value in one of QEMU's option lists.
fn option(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn ensure_qemu(path: &std::ffi::OsStr) -> Result<()> {
    let found = env::split_paths(path).any(|folder| folder.join(QEMU).is_file());
    ensure!(
        found,
        "cannot find {QEMU}, which stands in for the missing KVM: `apt-get install {PACKAGE}`"
    );
    Ok(())
}

fn memory_mib() -> Result<u64> {
    if let Some(wanted) = Setting::EmulatorMemoryMib.get()? {
        let (mib, origin) = (wanted.number()?, &wanted.origin);
        ensure!(
            mib >= MIN_MEMORY_MIB,
            "{origin}: must be {MIN_MEMORY_MIB} MiB or more, is {mib}"
        );
        return Ok(mib);
    }
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    total_kib(&meminfo)
        .map(|kib| (kib / 2048).clamp(*MEMORY_MIB.start(), *MEMORY_MIB.end()))
        .ok_or_else(|| anyhow!("cannot read /proc/meminfo: it has no MemTotal"))
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Opens the log to be appended to, by several processes at a time.
pub fn open_log(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let opened: io::Result<File> = options.open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_emulator_is_told_with_its_package() {
        let error = ensure_qemu("/no/such/folder".as_ref())
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("`apt-get install qemu-system-x86`"),
            "{error}"
        );
    }

    #[test]
    fn memory_is_read_in_kib() {
        let meminfo = "MemFree: 1 kB\nMemTotal:       24612345 kB\n";
        assert_eq!(total_kib(meminfo), Some(24_612_345));
        assert_eq!(total_kib("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        assert_eq!(option(Path::new("/run/a,b/log")), "/run/a,,b/log");
    }
}
