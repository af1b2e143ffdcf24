//! The processes of a machine and its memory, as `/proc` has them: what `mvm top` shows.
//!
//! Compiled by both sides. Leaves out threads of the kernel and the two processes that look. proc(5).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{getpid, getppid};
use serde::{Deserialize, Serialize};

/// Bytes of a command line that are told.
const COMMAND_MAX: usize = 4096;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Clock ticks in a second, as all of Linux' user interfaces on x86 count (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// KiB of a page.
const PAGE_KIB: u64 = 4;

/// What runs in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Memory that the guest's kernel has, in KiB.
    pub memory_total_kib: u64,
    /// Memory that it could give to a new program, in KiB.
    pub memory_available_kib: u64,
    /// In the order of their numbers.
    pub processes: Vec<Process>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's number.
    pub parent: u32,
    /// Whom it belongs to.
    pub uid: u32,
    /// `R`, `S`, `D`, `Z` and so on.
    pub state: char,
    /// Number of its threads.
    pub threads: u64,
    /// Processor time that it has used, in ms.
    pub cpu_ms: u64,
    /// Its memory, parts that it shares with others included, in KiB.
    pub resident_kib: u64,
    /// Its arguments, or its name in brackets if it has none.
    pub command: String,
}

/// A line of `stat`, of a process or a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, at most 15 bytes.
    pub name: String,
    /// As [`Process::state`].
    pub state: char,
    /// The parent's number.
    pub parent: u32,
    /// Whether it is a thread of the kernel.
    pub is_kernels: bool,
    /// Processor time in user and kernel mode, in ms.
    pub cpu_ms: u64,
    /// Number of threads.
    pub threads: u64,
    /// Memory in KiB.
    pub resident_kib: u64,
}

impl Stat {
    /// Takes the line apart; `None` if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let (start, rest) = line.rsplit_once(')')?;
        let (_, name) = start.split_once('(')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // The third field comes first here (proc_pid_stat(5)).
        let field = |number: usize| fields.get(number - 3).copied();
        let count = |number: usize| field(number)?.parse::<u64>().ok();
        let ticks = count(14)?.saturating_add(count(15)?);
        Some(Self {
            name: name.into(),
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            is_kernels: count(9)? & KERNEL_THREAD != 0,
            cpu_ms: ticks.saturating_mul(1000 / TICKS_PER_SECOND),
            threads: count(20)?,
            resident_kib: count(24)?.saturating_mul(PAGE_KIB),
        })
    }
}

impl Report {
    /// Looks at all processes of this machine.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn now() -> Result<Self> {
        let own =
            [Some(getpid()), getppid()].map(|pid| pid.map(|pid| pid.as_raw_pid().to_string()));
        let entries = fs::read_dir("/proc").context("cannot list /proc")?;
        let mut processes: Vec<_> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                own.iter().flatten().all(|own| name != own.as_str())
            })
            // One that ends meanwhile is not told.
            .filter_map(|entry| process(&entry.path()))
            .collect();
        processes.sort_by_key(|process| process.pid);
        let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        Ok(Self {
            memory_total_kib: kib(&memory, "MemTotal:").unwrap_or(0),
            memory_available_kib: kib(&memory, "MemAvailable:").unwrap_or(0),
            processes,
        })
    }
}

/// The process whose folder in `/proc` this is.
fn process(folder: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let line = fs::read(folder.join("stat")).ok()?;
    let stat = Stat::parse(&String::from_utf8_lossy(&line))?;
    let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
    let told = !stat.is_kernels;
    told.then(|| Process {
        pid,
        parent: stat.parent,
        uid: fs::metadata(folder).map_or(0, |metadata| metadata.uid()),
        state: stat.state,
        threads: stat.threads,
        cpu_ms: stat.cpu_ms,
        resident_kib: stat.resident_kib,
        command: command(&arguments).unwrap_or_else(|| format!("[{}]", stat.name)),
    })
}

/// The arguments as a line; none if there are none.
fn command(arguments: &[u8]) -> Option<String> {
    let told = &arguments[..arguments.len().min(COMMAND_MAX)];
    let told = String::from_utf8_lossy(told).replace('\0', " ");
    let told = told.trim_end();
    (!told.is_empty()).then(|| told.to_owned())
}

/// The number behind `key` in lines such as `MemTotal:  12 kB`.
pub fn kib(lines: &str, key: &str) -> Option<u64> {
    let line = lines.lines().find(|line| line.starts_with(key))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 3 0 5 4096 250 \
                        18446744073709551615 1 1 0 0 0";

    #[test]
    fn a_name_may_have_brackets_and_spaces() {
        let stat = Stat::parse(LINE).unwrap();
        let expected = Stat {
            name: "a) b (c)".into(),
            state: 'S',
            parent: 1,
            is_kernels: false,
            cpu_ms: 420,
            threads: 3,
            resident_kib: 1000,
        };
        assert_eq!(stat, expected);
        for broken in ["", "7 (a", "7 (a) S", "7 (a) S 1 2 x"] {
            assert_eq!(Stat::parse(broken), None);
        }
    }

    #[test]
    fn this_process_is_left_out_and_its_child_is_told() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let report = Report::now();
        child.kill().unwrap();
        child.wait().unwrap();
        let report = report.unwrap();
        let find = |pid: u32| report.processes.iter().find(|process| process.pid == pid);
        assert_eq!(find(std::process::id()), None);
        let told = find(child.id()).unwrap();
        assert_eq!((told.parent, told.threads), (std::process::id(), 1));
        // Between fork and execve it is a copy of this one.
        assert!(!told.command.is_empty());
        assert!(report.memory_available_kib <= report.memory_total_kib);
        assert!(report.memory_available_kib > 0);
    }

    #[test]
    fn arguments_are_a_line() {
        assert_eq!(command(b"sleep\x001000\0").as_deref(), Some("sleep 1000"));
        assert_eq!(command(b""), None);
        assert_eq!(command(&[b'x'; 9000]).unwrap().len(), COMMAND_MAX);
    }
}
