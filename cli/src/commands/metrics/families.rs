//! What is told of each machine, and under which names.

use std::fmt;

use anyhow::Result;

use crate::control::client;
use crate::control::message::Info;
use crate::control::statistics::Statistics;
use crate::openmetrics::Kind::{Counter, Gauge, Info as Facts};
use crate::openmetrics::{Family, text};

/// Samples of all machines, by what they tell.
pub struct Families {
    machine: Family,
    start: Family,
    paused: Family,
    vcpus: Family,
    memory: Family,
    process_time: Family,
    vcpu_time: Family,
    exits: Family,
    resident: Family,
    proportional: Family,
    guest: Family,
    overhead: Family,
    threads: Family,
    requests: Family,
    replies: Family,
    mappings: Family,
    refused: Family,
    received_bytes: Family,
    received_packets: Family,
    sent_bytes: Family,
    sent_packets: Family,
    disk_reads: Family,
    disk_writes: Family,
    flushes: Family,
}

impl Families {
    /// Without samples.
    pub fn new() -> Self {
        let bytes = |name, help| Family::new(name, Gauge, "bytes", help);
        let count = |name, help| Family::new(name, Counter, "", help);
        let gauge = |name, help| Family::new(name, Gauge, "", help);
        let seconds = |name, kind, help| Family::new(name, kind, "seconds", help);
        Self {
            machine: Family::new("mvm_machine", Facts, "", "A machine that runs."),
            start: seconds(
                "mvm_start_time_seconds",
                Gauge,
                "When the machine was started, since 1970.",
            ),
            paused: gauge("mvm_paused", "Whether its processors are stopped."),
            vcpus: gauge("mvm_vcpus", "Number of its processors."),
            memory: bytes("mvm_memory_bytes", "Memory that the guest has."),
            process_time: seconds(
                "mvm_process_cpu_seconds",
                Counter,
                "Processor time of the machine's process, its guest included.",
            ),
            vcpu_time: seconds(
                "mvm_vcpu_cpu_seconds",
                Counter,
                "Processor time of each of the machine's processors.",
            ),
            exits: count(
                "mvm_vcpu_exits",
                "How often a processor has left the guest, by reason.",
            ),
            resident: bytes(
                "mvm_resident_memory_bytes",
                "Memory of the host that the machine's process has.",
            ),
            proportional: bytes(
                "mvm_proportional_memory_bytes",
                "The same, pages that others have too counted in parts.",
            ),
            guest: bytes(
                "mvm_guest_resident_memory_bytes",
                "The guest's part of what is resident.",
            ),
            overhead: bytes(
                "mvm_overhead_memory_bytes",
                "What the machine's process takes besides its guest.",
            ),
            threads: gauge("mvm_threads", "Threads of the machine's process."),
            requests: count(
                "mvm_fuse_requests",
                "Requests of the guest to its store and shares, by kind.",
            ),
            replies: Family::new(
                "mvm_fuse_reply_bytes",
                Counter,
                "bytes",
                "Bytes of all replies to them.",
            ),
            received_bytes: Family::new(
                "mvm_network_received_bytes",
                Counter,
                "bytes",
                "Bytes that the guest has received, with their Ethernet headers.",
            ),
            received_packets: count(
                "mvm_network_received_packets",
                "Packets that the guest has received.",
            ),
            sent_bytes: Family::new(
                "mvm_network_sent_bytes",
                Counter,
                "bytes",
                "Bytes that the guest has sent, with their Ethernet headers.",
            ),
            sent_packets: count(
                "mvm_network_sent_packets",
                "Packets that the guest has sent.",
            ),
            disk_reads: Family::new(
                "mvm_disk_read_bytes",
                Counter,
                "bytes",
                "Bytes that the guest wanted to read from its volumes.",
            ),
            disk_writes: Family::new(
                "mvm_disk_written_bytes",
                Counter,
                "bytes",
                "Bytes that the guest wanted to write to its volumes.",
            ),
            flushes: count(
                "mvm_disk_flushes",
                "How often the guest wanted what it wrote to be durable.",
            ),
            mappings: gauge(
                "mvm_fuse_mappings",
                "Pieces of files, of up to 2 MiB, that are the guest's memory.",
            ),
            refused: count(
                "mvm_fuse_refused",
                "Nodes, handles and mappings that the guest did not get.",
            ),
        }
    }

    /// Asks a machine and adds what it tells.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&mut self, name: &str) -> Result<()> {
        let info = client::info(name)?;
        let statistics = client::statistics(name)?;
        self.add(name, &info, &statistics);
        Ok(())
    }

    fn add(&mut self, name: &str, info: &Info, statistics: &Statistics) {
        let machine = ("machine", name);
        let version = ("version", env!("CARGO_PKG_VERSION"));
        self.machine.add(&[machine, version], 1);
        self.start
            .add(&[machine], Seconds(info.started.as_millisecond()));
        self.paused.add(&[machine], u8::from(info.paused));
        self.vcpus.add(&[machine], info.app.vcpus);
        self.memory.add(&[machine], info.app.memory_bytes());
        self.process_time
            .add(&[machine], Seconds(statistics.cpu_ms));
        for (number, vcpu) in statistics.vcpus.iter().enumerate() {
            let number = number.to_string();
            let processor = ("vcpu", number.as_str());
            self.vcpu_time
                .add(&[machine, processor], Seconds(vcpu.cpu_ms));
            for (reason, count) in &vcpu.exits {
                let labels = [machine, processor, ("reason", reason)];
                self.exits.add(&labels, count);
            }
        }
        self.add_memory(name, statistics);
        self.add_shares(name, statistics);
        self.add_interfaces(name, statistics);
        self.add_disks(name, statistics);
    }

    fn add_memory(&mut self, name: &str, statistics: &Statistics) {
        let machine = [("machine", name)];
        let memory = &statistics.memory;
        self.resident.add(&machine, memory.resident_kib << 10);
        self.proportional
            .add(&machine, memory.proportional_kib << 10);
        self.guest.add(&machine, memory.guest_kib << 10);
        self.overhead.add(&machine, memory.overhead_kib << 10);
        self.threads.add(&machine, statistics.threads);
    }

    fn add_shares(&mut self, name: &str, statistics: &Statistics) {
        for (tag, share) in &statistics.shares {
            let labels = [("machine", name), ("share", tag)];
            for (request, count) in &share.requests {
                let labels = [labels[0], labels[1], ("request", request)];
                self.requests.add(&labels, count);
            }
            self.replies.add(&labels, share.replied_bytes);
            self.mappings.add(&labels, share.mappings);
            for (what, count) in [
                ("node", share.nodes_refused),
                ("handle", share.handles_refused),
                ("mapping", share.mappings_refused),
            ] {
                let labels = [labels[0], labels[1], ("what", what)];
                self.refused.add(&labels, count);
            }
        }
    }

    fn add_interfaces(&mut self, name: &str, statistics: &Statistics) {
        for (interface, told) in &statistics.interfaces {
            let labels = [("machine", name), ("interface", interface)];
            self.received_bytes.add(&labels, told.received_bytes);
            self.received_packets.add(&labels, told.received_packets);
            self.sent_bytes.add(&labels, told.sent_bytes);
            self.sent_packets.add(&labels, told.sent_packets);
        }
    }

    fn add_disks(&mut self, name: &str, statistics: &Statistics) {
        for (volume, disk) in &statistics.disks {
            let labels = [("machine", name), ("disk", volume)];
            self.disk_reads.add(&labels, disk.read_bytes);
            self.disk_writes.add(&labels, disk.written_bytes);
            self.flushes.add(&labels, disk.flushes);
        }
    }

    /// As text of that format.
    pub fn text(&self) -> String {
        text(&[
            &self.machine,
            &self.start,
            &self.paused,
            &self.vcpus,
            &self.memory,
            &self.process_time,
            &self.vcpu_time,
            &self.exits,
            &self.resident,
            &self.proportional,
            &self.guest,
            &self.overhead,
            &self.threads,
            &self.requests,
            &self.replies,
            &self.mappings,
            &self.refused,
            &self.received_bytes,
            &self.received_packets,
            &self.sent_bytes,
            &self.sent_packets,
            &self.disk_reads,
            &self.disk_writes,
            &self.flushes,
        ])
    }
}

/// So many milliseconds.
struct Seconds<T>(T);

impl<T: TryInto<i64> + Copy> fmt::Display for Seconds<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.try_into().unwrap_or(i64::MAX);
        write!(f, "{}.{:03}", ms / 1000, ms % 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use vmm::app::App;

    use super::*;
    use crate::control::statistics::{Disk, Interface, Share, Vcpu};

    fn statistics() -> Statistics {
        let share = Share {
            requests: BTreeMap::from([("LOOKUP".into(), 3)]),
            replied_bytes: 4096,
            ..Share::default()
        };
        let interface = Interface {
            received_bytes: 60,
            received_packets: 1,
            sent_bytes: 3000,
            sent_packets: 2,
        };
        let disk = Disk {
            read_bytes: 512,
            written_bytes: 1024,
            flushes: 3,
        };
        Statistics {
            cpu_ms: 1500,
            vcpus: vec![Vcpu {
                cpu_ms: 1250,
                exits: BTreeMap::from([("halt".into(), 2)]),
            }],
            threads: 9,
            shares: BTreeMap::from([("store".into(), share)]),
            interfaces: BTreeMap::from([("eth0".into(), interface)]),
            disks: BTreeMap::from([("volume0".into(), disk)]),
            ..Statistics::default()
        }
    }

    #[test]
    fn machines_stand_side_by_side_in_each_family() {
        let info = Info {
            pid: 1,
            started: Timestamp::from_millisecond(1_500).unwrap(),
            ports: Vec::new(),
            addresses: Vec::new(),
            paused: true,
            ready: true,
            health: None,
            status_text: None,
            store_data: None,
            store_data_reason: None,
            app: App::new("web", vec!["/bin/sh".into()]),
        };
        let mut families = Families::new();
        for name in ["one", "two"] {
            families.add(name, &info, &statistics());
        }
        let text = families.text();
        for lines in [
            "# UNIT mvm_start_time_seconds seconds\n",
            "mvm_start_time_seconds{machine=\"one\"} 1.500\nmvm_start_time_seconds{machine=\"two\"} 1.500\n",
            "mvm_paused{machine=\"two\"} 1\n",
            "# TYPE mvm_process_cpu_seconds counter\n",
            "mvm_vcpu_cpu_seconds_total{machine=\"one\",vcpu=\"0\"} 1.250\n",
            "mvm_vcpu_exits_total{machine=\"one\",vcpu=\"0\",reason=\"halt\"} 2\n",
            "mvm_fuse_requests_total{machine=\"two\",share=\"store\",request=\"LOOKUP\"} 3\n",
            "mvm_fuse_reply_bytes_total{machine=\"one\",share=\"store\"} 4096\n",
            "mvm_fuse_mappings{machine=\"one\",share=\"store\"} 0\n",
            "mvm_network_received_packets_total{machine=\"one\",interface=\"eth0\"} 1\n",
            "mvm_network_sent_bytes_total{machine=\"two\",interface=\"eth0\"} 3000\n",
            "mvm_disk_written_bytes_total{machine=\"two\",disk=\"volume0\"} 1024\n",
        ] {
            assert!(text.contains(lines), "{lines} is not in:\n{text}");
        }
        let families = text.matches("# TYPE ").count();
        assert_eq!(families, 24);
        assert!(text.ends_with("\n# EOF\n"));
    }
}
