//! `mvm up`, `mvm compose up`: the services of a file, started.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use vmm::compose::Project;

use super::{ensure_known, scale};
use crate::commands::rm::stop_and_forget;
use crate::commands::stop::Timeout;
use crate::compose::{
    Ending, Follow, Member, Progress, Scope, Starter, Waits, in_reverse, members, replicas,
};
use crate::output::say;

/// Start the services
///
/// Each is started as soon as those that it needs are as its dependsOn says, all that can be at once.
/// Machines that are what the file says are left alone, others are made anew.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Leave them in the background
    #[arg(long, short)]
    detach: bool,
    /// In the background: wait until all are healthy or have ended well; fail if one will not be
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u32>,
    /// Stop all once the machine of one has ended, and exit with its status
    #[arg(long, conflicts_with_all = ["detach", "wait"])]
    abort_on_exit: bool,
    /// The same, but exit with the status of this service
    #[arg(long, value_name = "SERVICE", conflicts_with_all = ["detach", "wait"])]
    exit_code_from: Option<String>,
    /// Have so many machines of a service, instead of its `scale`
    #[arg(long, value_name = "SERVICE=N", value_parser = scale)]
    scale: Vec<(String, u32)>,
    /// Stop and remove machines of services that the file does not have any more
    #[arg(long)]
    remove_orphans: bool,
    /// Only these services and those that they need
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    let mut file = scope.load()?;
    for (service, count) in &args.scale {
        let set = file.project.set_scale(service, *count);
        set.map_err(|error| anyhow::anyhow!("--scale: {error}"))?;
    }
    let project = &file.project;
    ensure_known(project, &args.services)?;
    ensure_known(project, args.exit_code_from.as_slice())?;
    let chosen = project.chosen(&args.services, &scope.profile);
    let services = project.with_needs(&chosen);
    ensure!(
        !services.is_empty(),
        "no service is to be started; --profile adds some"
    );
    let replicas = replicas(project, &services, file.path())?;
    remove_surplus(project, args.remove_orphans)?;
    let waits = Waits {
        for_health: args.wait,
        timeout: args.wait_timeout.map(u64::from).map(Duration::from_secs),
    };
    let is_followed = !args.detach && !args.wait;
    let starter = Starter::new(&replicas, waits, Progress::of(&replicas, is_followed));
    if !is_followed {
        return starter.carry_out().map(|()| ExitCode::SUCCESS);
    }
    Follow {
        project,
        replicas: &replicas,
        starter: &starter,
        ending: Ending {
            on_exit: args.abort_on_exit || args.exit_code_from.is_some(),
            status_of: args.exit_code_from.clone(),
        },
    }
    .carry_out()
}

/// Has machines go that are more than their services have, and names those of no service.
fn remove_surplus(project: &Project, also_orphans: bool) -> Result<()> {
    let mut surplus = members(&project.name)?;
    surplus.retain(|member| {
        !member.is_one_off() && !project.has(&member.service, &member.machine.name)
    });
    let is_orphan = |member: &Member| !project.services.contains_key(&member.service);
    if !also_orphans {
        say_orphans(surplus.iter().filter(|member| is_orphan(member)));
        surplus.retain(|member| !is_orphan(member));
    }
    in_reverse(Some(project), &surplus, |member| {
        stop_and_forget(&member.machine, &Timeout::default())
    })
}

/// Names machines of services that the file does not have.
pub fn say_orphans<'a>(orphans: impl Iterator<Item = &'a Member>) {
    let names: Vec<_> = orphans.map(|member| member.machine.name.as_str()).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        say(format_args!(
            "of services that the file does not have: {names}; --remove-orphans removes them"
        ));
    }
}
