//! `mvm compose restart`: services, stopped and started again.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use super::ensure_known;
use crate::commands::stop::Timeout;
use crate::compose::{Progress, Scope, Starter, Waits, in_reverse, members, replicas};
use crate::events::{self, Happened};

/// Stop services and start them again, as they are
///
/// Those that need others are stopped first and started last. What the file says by now counts with
/// `mvm up` alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    timeout: Timeout,
    /// The services; by default all that have machines
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let file = scope.load()?;
    let project = &file.project;
    ensure_known(project, &args.services)?;
    let mut members = members(&project.name)?;
    members.retain(|member| {
        project.services.contains_key(&member.service)
            && (args.services.is_empty() || args.services.contains(&member.service))
    });
    ensure!(
        !members.is_empty(),
        "no service has a machine; `mvm up` makes them"
    );
    in_reverse(Some(project), &members, |member| member.stop(&args.timeout))?;
    let mut replicas = replicas(project, &project.order(), file.path())?;
    replicas.retain_mut(|replica| {
        let member = members
            .iter()
            .find(|one| one.machine.name == replica.name());
        // As it is, whatever the file says.
        member
            .inspect(|member| replica.app.clone_from(&member.app))
            .is_some()
    });
    let starter = Starter::new(&replicas, Waits::default(), Progress::of(&replicas, false));
    starter.carry_out()?;
    for replica in &replicas {
        events::note(replica.name(), Happened::Restarted);
    }
    Ok(ExitCode::SUCCESS)
}
