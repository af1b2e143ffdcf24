//! `mvm top`: the processes of a machine.

use std::process::ExitCode;

use anyhow::Result;
use guest::processes::Process;

use crate::agent;
use crate::machines;
use crate::output::{plain, print, print_json};
use crate::size;
use crate::table::table;

/// List the processes of a machine that runs
///
/// The machine needs no ps for that. Threads of its kernel are left out.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine
    name: String,
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let machine = machines::find(&args.name)?;
    let report = agent::report(&machine.name)?;
    if args.json {
        print_json(&report.processes)?;
    } else {
        let heads = [
            "PID", "PARENT", "UID", "STATE", "THREADS", "TIME", "MEMORY", "COMMAND",
        ];
        let rows: Vec<_> = report.processes.iter().map(row).collect();
        print(table(heads, &rows).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(process: &Process) -> [String; 8] {
    [
        process.pid.to_string(),
        process.parent.to_string(),
        process.uid.to_string(),
        plain(&process.state.to_string()),
        process.threads.to_string(),
        time(process.cpu_ms),
        size::bytes(process.resident_kib.saturating_mul(1024)),
        plain(&process.command),
    ]
}

/// Minutes, seconds and hundredths, as ps(1) has them.
fn time(ms: u64) -> String {
    format!("{}:{:02}.{:02}", ms / 60_000, ms / 1000 % 60, ms / 10 % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_nothing_that_acts_on_a_terminal() {
        let process = Process {
            pid: 7,
            parent: 1,
            uid: 1000,
            state: '\u{1b}',
            threads: 2,
            cpu_ms: 3_723_456,
            resident_kib: u64::MAX,
            command: "\u{1b}[2Jevil\nname".into(),
        };
        let row = row(&process);
        assert_eq!(row[3], "");
        assert_eq!(row[5], "62:03.45");
        assert_eq!(row[7], "[2Jevilname");
    }
}
