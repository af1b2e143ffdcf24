//! What a machine has used and done since its start, as it tells over its control socket.
//!
//! The one thing to know: names of shares, requests and exits are keys, so that a newer machine can
//! tell an older command of more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters only ever grow; all else is as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Processor time of the monitor's process, its vCPUs included, in ms.
    pub cpu_ms: u64,
    /// The vCPUs in their order.
    pub vcpus: Vec<Vcpu>,
    /// The process's memory.
    pub memory: Memory,
    /// Threads of the process.
    pub threads: u64,
    /// The store and the shares, by their tags.
    pub shares: BTreeMap<String, Share>,
    /// The network cards, by the guest's names for them.
    #[serde(default)]
    pub interfaces: BTreeMap<String, Interface>,
    /// The volumes, by what the guest finds them by.
    pub disks: BTreeMap<String, Disk>,
}

/// What went through one network card, as the guest sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// What a guest asked of one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Bytes to read.
    pub read_bytes: u64,
    /// Bytes to write.
    pub written_bytes: u64,
    /// Flushes.
    pub flushes: u64,
}

/// One vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vcpu {
    /// Processor time of its thread, the guest's included, in ms.
    pub cpu_ms: u64,
    /// How often it has left the guest, by reason.
    pub exits: BTreeMap<String, u64>,
}

/// Memory of the monitor's process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "their unit")]
pub struct Memory {
    /// All that is in the host's memory.
    pub resident_kib: u64,
    /// The same, with each page that others have too counted in parts.
    pub proportional_kib: u64,
    /// The guest's part of what is resident.
    pub guest_kib: u64,
    /// What the machine costs besides its guest: the rest of the proportional.
    pub overhead_kib: u64,
}

/// What a guest asked of one share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// By FUSE's names of the requests.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of all replies.
    pub replied_bytes: u64,
    /// Names that were not told since the guest held too many.
    pub nodes_refused: u64,
    /// Files that were not opened since the guest held too many.
    pub handles_refused: u64,
    /// Pieces of files, each of up to 2 MiB, that are the guest's memory now.
    #[serde(default)]
    pub mappings: u64,
    /// Those that the host did not map.
    #[serde(default)]
    pub mappings_refused: u64,
    /// Version of Landlock that confines the file server; 0 where the kernel has none, null
    /// where the guest did not use the share.
    pub landlock: Option<i32>,
}
