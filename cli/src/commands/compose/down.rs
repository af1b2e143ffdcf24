//! `mvm down`, `mvm compose down`: the end of a project.

use std::process::ExitCode;

use anyhow::{Context, Result};
use vmm::compose::volume_prefix;
use vmm::volume;

use super::up::say_orphans;
use crate::commands::rm::stop_and_forget;
use crate::commands::stop::Timeout;
use crate::compose::{Member, Scope, in_reverse, members};
use crate::output::print;

/// Stop the services, and remove their machines
///
/// Those first that need others; before them those of `mvm compose run`. Prints what is removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also remove the project's volumes, with all that is in them
    #[arg(long, short)]
    volumes: bool,
    /// Also machines of services that the file does not have any more
    #[arg(long)]
    remove_orphans: bool,
    #[command(flatten)]
    timeout: Timeout,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let file = scope.load_if_any()?;
    let project = file.as_ref().map(|file| &file.project);
    let name = project.map_or(scope.project(), |project| &project.name);
    let (one_offs, mut members): (Vec<_>, Vec<_>) =
        members(name)?.into_iter().partition(Member::is_one_off);
    if let Some(project) = project.filter(|_| !args.remove_orphans) {
        let is_orphan = |service: &String| !project.services.contains_key(service);
        say_orphans(members.iter().filter(|member| is_orphan(&member.service)));
        members.retain(|member| !is_orphan(&member.service));
    }
    // Machines of one command need those of services.
    for members in [one_offs, members] {
        in_reverse(project, &members, |member| {
            stop_and_forget(&member.machine, &args.timeout)?;
            print(format!("{}\n", member.machine.name).as_bytes())
        })?;
    }
    if args.volumes {
        for volume in volume::names()? {
            if volume.starts_with(&volume_prefix(name)) {
                volume::remove(&volume)
                    .with_context(|| format!("cannot remove volume {volume}"))?;
                print(format!("{volume}\n").as_bytes())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
