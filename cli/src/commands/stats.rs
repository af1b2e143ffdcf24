//! `mvm stats`: what machines use.
//!
//! The one thing to know: processor time is told for the time between two looks, so the first line
//! takes a second. What the guest uses is its own word; all else is what the host's kernel counts.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use guest::processes::Report;
use serde::Serialize;

use crate::agent;
use crate::control::client;
use crate::control::statistics::{Interface, Statistics};
use crate::machines;
use crate::output::{print, print_json};
use crate::size;
use crate::table::table;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Moves to the corner of a terminal, and wipes what is below.
const HOME_AND_WIPE: &str = "\x1b[H\x1b[J";

/// Show what machines use, again and again
///
/// CPU: of one processor, the guest and mvm together. MEMORY: what the guest uses, by its own word, of
/// what it has. RESIDENT: how much memory of the host that takes. OVERHEAD: what mvm takes besides.
/// SHARES: bytes that its store and its shares have sent. VOLUMES: bytes read and written. NETWORK:
/// bytes received and sent. Without names, all that run; a machine that is named and does not run, or
/// does not answer, has a row of dashes, or of zeros with --json.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Print JSON: an object in a line for each machine and second, or a list with --no-stream
    #[arg(long)]
    json: bool,
}

/// A machine at one moment.
struct Seen {
    is_running: bool,
    /// None if it does not run, or does not answer.
    look: Option<Look>,
}

/// What is known of a machine at one moment.
struct Look {
    at: Instant,
    statistics: Statistics,
    /// None while it is paused, or if it does not answer.
    report: Option<Report>,
}

impl Look {
    fn at(name: &str) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            statistics: client::statistics(name)?,
            report: agent::report(name).ok(),
        })
    }
}

/// A machine with `--json`.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    running: bool,
    /// Whether the rest is known.
    #[serde(skip)]
    is_known: bool,
    /// Of one processor.
    cpu_percent: f64,
    /// By the guest's own word.
    memory_used_bytes: Option<u64>,
    memory_total_bytes: Option<u64>,
    /// Processes of the guest.
    processes: Option<usize>,
    /// Memory of the host: all of the monitor, the guest's part of it, and what is not the guest's.
    resident_bytes: u64,
    proportional_bytes: u64,
    guest_resident_bytes: u64,
    overhead_bytes: u64,
    /// Threads of the monitor.
    threads: u64,
    /// Bytes that the store and the shares have sent since the start.
    share_bytes: u64,
    /// Bytes that were read from its volumes and written to them since the start.
    disk_read_bytes: u64,
    disk_written_bytes: u64,
    /// What went through its network cards since the start.
    network_received_bytes: u64,
    network_received_packets: u64,
    network_sent_bytes: u64,
    network_sent_packets: u64,
}

impl Row {
    fn new(name: &str, before: &Look, now: &Look) -> Self {
        let memory = &now.statistics.memory;
        let bytes = |kib: u64| kib.saturating_mul(1024);
        let report = now.report.as_ref();
        let disks = now.statistics.disks.values();
        let network = network(&now.statistics);
        let sum = |sum: u64, bytes| sum.saturating_add(bytes);
        Self {
            name: name.into(),
            running: true,
            is_known: true,
            cpu_percent: percent(before, now),
            memory_used_bytes: report.map(|report| {
                let available = report.memory_available_kib;
                bytes(report.memory_total_kib.saturating_sub(available))
            }),
            memory_total_bytes: report.map(|report| bytes(report.memory_total_kib)),
            processes: report.map(|report| report.processes.len()),
            resident_bytes: bytes(memory.resident_kib),
            proportional_bytes: bytes(memory.proportional_kib),
            guest_resident_bytes: bytes(memory.guest_kib),
            overhead_bytes: bytes(memory.overhead_kib),
            threads: now.statistics.threads,
            share_bytes: now
                .statistics
                .shares
                .values()
                .map(|share| share.replied_bytes)
                .fold(0, sum),
            disk_read_bytes: disks.clone().map(|disk| disk.read_bytes).fold(0, sum),
            disk_written_bytes: disks.map(|disk| disk.written_bytes).fold(0, sum),
            network_received_bytes: network.received_bytes,
            network_received_packets: network.received_packets,
            network_sent_bytes: network.sent_bytes,
            network_sent_packets: network.sent_packets,
        }
    }

    /// Of a machine of which nothing is known.
    fn unknown(name: &str, is_running: bool) -> Self {
        Self {
            name: name.into(),
            running: is_running,
            ..Self::default()
        }
    }

    fn cells(&self) -> [String; 9] {
        if !self.is_known {
            let mut cells = std::array::from_fn(|_| "--".to_owned());
            cells[0].clone_from(&self.name);
            return cells;
        }
        let memory = match (self.memory_used_bytes, self.memory_total_bytes) {
            (Some(used), Some(total)) => {
                format!("{} / {}", size::bytes(used), size::bytes(total))
            }
            _ => "-".into(),
        };
        [
            self.name.clone(),
            format!("{:.1} %", self.cpu_percent),
            memory,
            size::bytes(self.resident_bytes),
            size::bytes(self.overhead_bytes),
            size::bytes(self.share_bytes),
            format!(
                "{} / {}",
                size::bytes(self.disk_read_bytes),
                size::bytes(self.disk_written_bytes)
            ),
            format!(
                "{} / {}",
                size::bytes(self.network_received_bytes),
                size::bytes(self.network_sent_bytes)
            ),
            self.processes.map_or("-".into(), |count| count.to_string()),
        ]
    }
}

/// All network cards of a machine together.
fn network(statistics: &Statistics) -> Interface {
    let cards = statistics.interfaces.values();
    cards.fold(Interface::default(), |sum, card| Interface {
        received_bytes: sum.received_bytes.saturating_add(card.received_bytes),
        received_packets: sum.received_packets.saturating_add(card.received_packets),
        sent_bytes: sum.sent_bytes.saturating_add(card.sent_bytes),
        sent_packets: sum.sent_packets.saturating_add(card.sent_packets),
    })
}

fn percent(before: &Look, now: &Look) -> f64 {
    let used = now
        .statistics
        .cpu_ms
        .saturating_sub(before.statistics.cpu_ms);
    let passed = now.at.duration_since(before.at).as_secs_f64();
    if passed > 0.0 {
        // Of some hours at most, so no digit is lost.
        let tenths = Duration::from_millis(used).as_secs_f64() / passed * 1000.0;
        tenths.round() / 10.0
    } else {
        0.0
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut before = looks(args)?;
    loop {
        thread::sleep(PERIOD);
        let now = looks(args)?;
        let rows: Vec<_> = now
            .iter()
            .filter_map(|(name, now)| row(args, name, before.get(name), now))
            .collect();
        show(args, &rows)?;
        let all_ended = !now.values().any(|seen| seen.is_running);
        if args.no_stream || (all_ended && !args.names.is_empty()) {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// The row of a machine, unless nothing is known of one that was not named.
fn row(args: &Args, name: &str, before: Option<&Seen>, now: &Seen) -> Option<Row> {
    let before = before.and_then(|seen| seen.look.as_ref());
    match (before, &now.look) {
        (Some(before), Some(now)) => Some(Row::new(name, before, now)),
        _ => (!args.names.is_empty()).then(|| Row::unknown(name, now.is_running)),
    }
}

/// Looks at each machine that is asked for.
fn looks(args: &Args) -> Result<BTreeMap<String, Seen>> {
    let machines = if args.names.is_empty() {
        machines::all()?
    } else {
        let found = args.names.iter().map(|name| machines::find(name));
        found.collect::<Result<_>>()?
    };
    let look = |machine: machines::Machine| {
        let is_running = machine.is_running;
        // One that ends meanwhile, or is still starting, does not answer.
        let look = is_running.then(|| Look::at(&machine.name).ok()).flatten();
        (machine.name, Seen { is_running, look })
    };
    Ok(machines.into_iter().map(look).collect())
}

fn show(args: &Args, rows: &[Row]) -> Result<()> {
    if args.json && args.no_stream {
        return print_json(&rows);
    }
    let mut text = String::new();
    if args.json {
        for row in rows {
            text += &(serde_json::to_string(row)? + "\n");
        }
    } else {
        if !args.no_stream && io::stdout().is_terminal() {
            text += HOME_AND_WIPE;
        }
        let heads = [
            "NAME", "CPU", "MEMORY", "RESIDENT", "OVERHEAD", "SHARES", "VOLUMES", "NETWORK", "PIDS",
        ];
        let cells: Vec<_> = rows.iter().map(Row::cells).collect();
        text += &table(heads, &cells);
    }
    print(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_run_has_a_row_if_it_is_named() {
        let stopped = Seen {
            is_running: false,
            look: None,
        };
        let args = |names: &[&str]| Args {
            names: names.iter().map(|name| (*name).into()).collect(),
            no_stream: true,
            json: false,
        };
        assert_eq!(row(&args(&[]), "web", None, &stopped), None);
        let row = row(&args(&["web"]), "web", Some(&stopped), &stopped).unwrap();
        assert_eq!(row.cells().concat(), format!("web{}", "--".repeat(8)));
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["running"], false);
        assert_eq!(json["residentBytes"], 0);
    }
}
