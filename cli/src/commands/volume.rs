//! `mvm volume`: named volumes, which outlive the machines that have them.

mod prune;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Subcommand;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use jiff::Timestamp;
use serde::Serialize;
use vmm::app::{User, Volume, VolumeSize};
use vmm::volume;

use super::inspect::those_there;
use super::start::for_each;
use crate::machines;
use crate::output::{print, print_json};
use crate::size;
use crate::state::State;
use crate::table::table;

/// Look at named volumes, make them and remove them
///
/// A machine's volumes are made when it first starts, and stay when it is removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List volumes, how much they can hold and take, and the machines that name them
    #[command(visible_alias = "list")]
    Ls {
        /// Print names alone
        #[arg(long, short, conflicts_with = "json")]
        quiet: bool,
        /// Print a JSON list
        #[arg(long)]
        json: bool,
    },
    /// Print all that is known of volumes, as a JSON list
    Inspect {
        /// The volumes
        #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(candidates))]
        volumes: Vec<String>,
    },
    /// Make a volume, as the first machine that has it would
    ///
    /// Prints its name. One that is there already is left as it is.
    Create {
        /// What it is called
        name: String,
        /// How much it can hold, such as 10G
        #[arg(long, value_name = "SIZE", default_value_t)]
        size: VolumeSize,
        /// Whose its topmost folder is, as `app.user` has it
        #[arg(long, short, value_name = "USER", default_value = "root", value_parser = user)]
        user: User,
    },
    /// Remove volumes with all that is in them
    ///
    /// Those that a machine names are kept, whether that runs or not.
    #[command(visible_alias = "remove")]
    Rm {
        /// The volumes
        #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(candidates))]
        volumes: Vec<String>,
        /// Also remove those of machines that do not run, which make them anew when they start; one
        /// that is not there is no error
        #[arg(long, short)]
        force: bool,
    },
    /// Remove the volumes that no machine names, with all that is in them
    ///
    /// Asks first. Volumes of a project that is down are among them: no machine names them until the
    /// next `mvm up`. Prints what is removed, and how much of the disk is free then.
    Prune(prune::Args),
}

/// A volume with `--json`.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    path: PathBuf,
    size_bytes: u64,
    /// What it takes of the host's disk.
    allocated_bytes: u64,
    /// When it was written last.
    modified: Option<Timestamp>,
    machines: Vec<Holder>,
}

/// A machine that names a volume.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Holder {
    name: String,
    running: bool,
}

impl Row {
    fn new(name: String, holders: &Holders) -> Result<Self> {
        let facts = volume::facts(&name)?;
        Ok(Self {
            path: facts.path,
            size_bytes: facts.size_bytes,
            allocated_bytes: facts.allocated_bytes,
            modified: facts.modified.and_then(|time| time.try_into().ok()),
            machines: holders.get(&name).cloned().unwrap_or_default(),
            name,
        })
    }

    fn cells(&self) -> [String; 4] {
        let machines: Vec<_> = self.machines.iter().map(|one| one.name.as_str()).collect();
        [
            self.name.clone(),
            size::bytes(self.size_bytes),
            size::bytes(self.allocated_bytes),
            machines.join(", "),
        ]
    }
}

/// By the names of volumes.
type Holders = BTreeMap<String, Vec<Holder>>;

/// The machines that name volumes, running or kept.
fn holders() -> Result<Holders> {
    let mut holders = Holders::new();
    for machine in machines::all()? {
        let state = State::of(&machine)?;
        let volumes = state.app.into_iter().flat_map(|app| app.volumes);
        for name in volumes.filter_map(|volume| volume.name) {
            holders.entry(name).or_default().push(Holder {
                name: machine.name.clone(),
                running: machine.is_running,
            });
        }
    }
    Ok(holders)
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Ls { quiet: true, .. } => {
            let lines = volume::names()?.into_iter().map(|name| name + "\n");
            print(lines.collect::<String>().as_bytes())?;
        }
        Command::Ls { json, .. } => list(*json)?,
        Command::Inspect { volumes } => return inspect(volumes),
        Command::Create { name, size, user } => create(name, *size, user)?,
        Command::Rm { volumes, force } => {
            let holders = holders()?;
            return for_each(volumes, |name| remove(name, *force, &holders));
        }
        Command::Prune(args) => {
            if !prune::run(args)? {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> Result<()> {
    let holders = holders()?;
    let names = volume::names()?.into_iter();
    // One that goes meanwhile is left out.
    let rows: Vec<_> = names
        .filter_map(|name| Row::new(name, &holders).ok())
        .collect();
    if json {
        return print_json(&rows);
    }
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    print(table(["NAME", "SIZE", "ON DISK", "MACHINES"], &cells).as_bytes())
}

fn inspect(names: &[String]) -> Result<ExitCode> {
    let holders = holders()?;
    let (rows, status) = those_there(names, |name| {
        ensure_there(name)?;
        Row::new(name.clone(), &holders)
    });
    print_json(&rows)?;
    Ok(status)
}

fn create(name: &str, size: VolumeSize, user: &User) -> Result<()> {
    let volume = Volume::named(name, size);
    if let Some(complaint) = volume.check().first() {
        return Err(anyhow!("cannot make volume {name:?}: {complaint}"));
    }
    volume::create(&volume, user.ids()).with_context(|| format!("cannot make volume {name}"))?;
    print(format!("{name}\n").as_bytes())
}

fn remove(name: &str, force: bool, holders: &Holders) -> Result<String> {
    if !force {
        ensure_there(name)?;
    }
    if let Some(holder) = blocker(name, force, holders) {
        let instead = if holder.running {
            format!("`mvm stop {}` first", holder.name)
        } else {
            format!("`mvm rm {}` first, or --force", holder.name)
        };
        return Err(anyhow!(
            "volume {name} is one of machine {}; {instead}",
            holder.name
        ));
    }
    if volume::names()?.iter().any(|one| one == name) {
        volume::remove(name).with_context(|| format!("cannot remove volume {name}"))?;
    }
    Ok(name.into())
}

/// A machine on account of which a volume stays.
fn blocker<'a>(name: &str, force: bool, holders: &'a Holders) -> Option<&'a Holder> {
    let mut holders = holders.get(name)?.iter();
    holders.find(|holder| holder.running || !force)
}

fn ensure_there(name: &str) -> Result<()> {
    ensure!(
        volume::names()?.iter().any(|one| one == name),
        "there is no volume {name}; `mvm volume ls` lists all"
    );
    Ok(())
}

fn user(text: &str) -> Result<User, String> {
    text.parse()
        .map_err(|()| format!("must be {}", User::ALLOWED))
}

fn candidates() -> Vec<CompletionCandidate> {
    let names = volume::names().unwrap_or_default().into_iter();
    names.map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, running: bool) -> Holder {
        Holder {
            name: name.into(),
            running,
        }
    }

    #[test]
    fn a_volume_stays_for_machines_that_run_and_without_force_for_others_too() {
        let holders = Holders::from([
            ("kept".into(), vec![holder("web", false)]),
            (
                "used".into(),
                vec![holder("old", false), holder("db", true)],
            ),
        ]);
        let name = |volume, force| Some(blocker(volume, force, &holders)?.name.as_str());
        assert_eq!(name("free", false), None);
        assert_eq!(name("kept", false), Some("web"));
        assert_eq!(name("kept", true), None);
        assert_eq!(name("used", true), Some("db"));
    }

    #[test]
    fn a_row_has_both_sizes_and_all_machines() {
        let row = Row {
            name: "data".into(),
            path: "/v/data.raw".into(),
            size_bytes: 1 << 30,
            allocated_bytes: 3 << 20,
            modified: None,
            machines: vec![holder("a", true), holder("b", false)],
        };
        assert_eq!(row.cells(), ["data", "1.0 GiB", "3.0 MiB", "a, b"]);
    }
}
