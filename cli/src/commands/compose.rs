//! `mvm compose`: what commands do with one machine, done with the services of a project; and `mvm up`
//! and `mvm down`, which are of projects alone.

mod chosen;
pub mod config;
pub mod down;
pub mod exec;
pub mod logs;
pub mod ps;
pub mod restart;
pub mod run;
pub mod start;
pub mod stop;
pub mod up;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use vmm::compose::{MAX_SCALE, Project};

use crate::compose::{Member, Scope, members};

/// Work with the services of a compose.json
///
/// The machines of a project are called PROJECT-SERVICE, and those of a service after the first
/// PROJECT-SERVICE-2 and so on; all other commands know them by these names.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    scope: Scope,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Down(down::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Restart(restart::Args),
    Stop(stop::Args),
    Start(start::Args),
    Run(run::Args),
    Config(config::Args),
}

/// Start the services of a compose.json
///
/// Each is started as soon as those that it needs are as its dependsOn says, all that can be at once.
/// Machines that are what the file says are left alone, others are made anew. In the foreground, what
/// they say is shown until they end, or until Ctrl-C stops them, those first that need others; a second
/// one kills them.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    up: up::Args,
}

/// Stop the services of a compose.json, and remove their machines
///
/// Those first that need others. Volumes stay unless --volumes is given.
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    down: down::Args,
}

/// Runs `mvm compose`.
pub fn run(args: &Args) -> Result<ExitCode> {
    let scope = &args.scope;
    match &args.command {
        Command::Up(args) => up::run(scope, args),
        Command::Down(args) => down::run(scope, args),
        Command::Ps(args) => ps::run(scope, args),
        Command::Logs(args) => logs::run(scope, args),
        Command::Exec(args) => exec::run(scope, args),
        Command::Restart(args) => restart::run(scope, args),
        Command::Stop(args) => stop::run(scope, args),
        Command::Start(args) => start::run(scope, args),
        Command::Run(args) => run::run(scope, args),
        Command::Config(args) => config::run(scope, args),
    }
}

/// Runs `mvm up`.
pub fn run_up(args: &UpArgs) -> Result<ExitCode> {
    up::run(&args.scope, &args.up)
}

/// Runs `mvm down`.
pub fn run_down(args: &DownArgs) -> Result<ExitCode> {
    down::run(&args.scope, &args.down)
}

impl Args {
    /// Whether machines are started.
    pub const fn starts(&self) -> bool {
        matches!(
            self.command,
            Command::Up(_) | Command::Restart(_) | Command::Start(_) | Command::Run(_)
        )
    }

    /// Whether machines are looked for.
    pub const fn finds(&self) -> bool {
        !matches!(self.command, Command::Config(_))
    }
}

/// # Errors
/// One of `services` is none of the project's.
fn ensure_known(project: &Project, services: &[String]) -> Result<()> {
    for service in services {
        if !project.services.contains_key(service) {
            let all: Vec<_> = project.services.keys().map(String::as_str).collect();
            bail!(
                "there is no service {service}; there are {}",
                all.join(", ")
            );
        }
    }
    Ok(())
}

/// The members that are of `services`, or all for none.
///
/// # Errors
/// The file has no such service, or what is kept of a machine cannot be read.
fn members_of(scope: &Scope, services: &[String]) -> Result<Vec<Member>> {
    let file = scope.load_if_any()?;
    let project = match &file {
        Some(file) => {
            ensure_known(&file.project, services)?;
            &file.project.name
        }
        None => scope.project(),
    };
    let mut members = members(project)?;
    members.retain(|member| services.is_empty() || services.contains(&member.service));
    Ok(members)
}

/// `SERVICE=N` of `--scale`.
fn scale(text: &str) -> Result<(String, u32)> {
    let (service, count) = text.split_once('=').unwrap_or((text, ""));
    match count.parse() {
        Ok(count) if count <= MAX_SCALE => Ok((service.into(), count)),
        _ => bail!("must be SERVICE=N, and N from 0 to {MAX_SCALE}"),
    }
}
