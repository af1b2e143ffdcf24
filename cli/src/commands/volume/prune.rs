//! `mvm volume prune`: the volumes that no machine names.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use vmm::volume;

use super::{Holders, Row, holders};
use crate::machines;
use crate::output::{print, print_json, say};
use crate::size;
use crate::state::State;
use crate::table::table;

/// What is to go, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Print a JSON list of what was removed
    #[arg(long)]
    json: bool,
}

/// A volume that was removed, with `--json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    name: String,
    freed_bytes: u64,
}

/// Removes the volumes that no machine names. False if one of them could not be.
pub fn run(args: &Args) -> Result<bool> {
    let unused = unused(&known_holders()?)?;
    if !unused.is_empty() && !args.force && !is_agreed(&unused)? {
        return Ok(true);
    }
    // Somebody may have made a machine meanwhile.
    let holders = known_holders()?;
    let (mut removed, mut is_whole) = (Vec::new(), true);
    for row in unused {
        if holders.contains_key(&row.name) {
            continue;
        }
        match volume::remove(&row.name) {
            Ok(()) => removed.push(Removed {
                name: row.name,
                freed_bytes: row.allocated_bytes,
            }),
            Err(error) => {
                say(format_args!("cannot remove volume {}: {error:#}", row.name));
                is_whole = false;
            }
        }
    }
    tell(&removed, args.json)?;
    Ok(is_whole)
}

/// The machines that name volumes, where all machines can be asked.
fn known_holders() -> Result<Holders> {
    for machine in machines::all()? {
        ensure!(
            State::of(&machine)?.app.is_some(),
            "cannot tell which volumes machine {0} names; `mvm rm {0}` removes it",
            machine.name
        );
    }
    holders()
}

fn unused(holders: &Holders) -> Result<Vec<Row>> {
    let names = volume::names()?.into_iter();
    let names = names.filter(|name| !holders.contains_key(name));
    // One that goes meanwhile is left out.
    Ok(names
        .filter_map(|name| Row::new(name, holders).ok())
        .collect())
}

/// Asks who sits at the terminal.
///
/// # Errors
/// Nobody does.
fn is_agreed(unused: &[Row]) -> Result<bool> {
    let those = match unused {
        [row] => format!("volume {}", row.name),
        _ => format!("{} volumes", unused.len()),
    };
    ensure!(
        io::stdin().is_terminal() && io::stderr().is_terminal(),
        "{those} would be removed with all that is in them; --force does so without being asked"
    );
    let cells = unused.iter().map(Row::cells);
    let cells: Vec<_> = cells.map(|[name, _, disk, _]| [name, disk]).collect();
    let mut err = io::stderr().lock();
    write!(
        err,
        "{}Remove {those}, with all that is in them? [y/N] ",
        table(["NAME", "ON DISK"], &cells)
    )?;
    drop(err);
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn tell(removed: &[Removed], json: bool) -> Result<()> {
    if json {
        return print_json(&removed);
    }
    for one in removed {
        print(format!("{}\n", one.name).as_bytes())?;
    }
    if !removed.is_empty() {
        let freed = removed.iter().map(|one| one.freed_bytes).sum();
        say(format_args!("freed {} of the disk", size::bytes(freed)));
    }
    Ok(())
}
