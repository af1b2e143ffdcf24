//! `mvm compose run`: a service's machine once more, for one command.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use vmm::app::{AppFile, Tty};
use vmm::compose::SERVICE_LABEL;

use super::ensure_known;
use crate::compose::{Progress, Scope, Starter, Waits, replicas};
use crate::environment;
use crate::image;
use crate::machines::{Record, Running};
use crate::monitor::{self, Start, Streams};
use crate::secrets::Secrets;
use crate::systemd::Sockets;

/// Run a service's program, or another one, in a machine of its own
///
/// What the service needs is started first and stays. The machine is in the project's networks, and
/// is called PROJECT-SERVICE-run; it has no ports of the host, and nothing of it is kept. Streams and
/// exit status are the program's.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Do not start what the service needs
    #[arg(long)]
    no_deps: bool,
    /// With the ports of the host that lead to the service
    #[arg(long)]
    service_ports: bool,
    /// Give it no terminal, also if this command has one
    #[arg(long, short = 'T')]
    no_tty: bool,
    /// Remove the machine at its end, as is done in any case
    #[arg(long)]
    rm: bool,
    /// Folder in the machine that it starts in, instead of `app.cwd`
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Set a variable of its environment; NAME alone takes its value from here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Who it runs as, instead of `app.user`
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Program to run instead of `app.entrypoint`
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// The service
    service: String,
    /// Arguments for the program instead of `app.args`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG"
    )]
    arguments: Vec<String>,
}

/// Runs the command.
pub fn run(scope: &Scope, args: &Args) -> Result<ExitCode> {
    // Before there is a child that could have them.
    let sockets = Sockets::receive()?;
    let compose = scope.load()?;
    let project = &compose.project;
    let name = &args.service;
    ensure_known(project, std::slice::from_ref(name))?;
    let Some(service) = project.services.get(name) else {
        bail!("there is no service {name}");
    };
    let mut app = project.machine(name, service, 1);
    image::complete(&mut app)?;
    app.name = format!("{}-run", app.name);
    // It is none of the service's machines, which share its name there.
    app.labels.remove(SERVICE_LABEL);
    for interface in app.interfaces.iter_mut().flatten() {
        interface.aliases.clear();
    }
    if !args.service_ports {
        app.ports.clear();
    }
    args.edit(&mut app.app)?;
    image::settle(&mut app)?;
    if !args.no_deps {
        let chosen: BTreeSet<_> = service.depends_on.keys().cloned().collect();
        let mut replicas = replicas(project, &project.with_needs(&chosen), compose.path())?;
        // What this service waits for is waited for.
        for replica in &mut replicas {
            replica.wanted = service.depends_on.get(&replica.service).copied();
        }
        let progress = Progress::of(&replicas, false);
        Starter::new(&replicas, Waits::default(), progress).carry_out()?;
    }
    if let Some(complaint) = app.check().first() {
        bail!("{complaint}");
    }
    let file = AppFile::of(app, &compose.path().to_string_lossy())?;
    let running = Running::create(&file.app.name, |name| Record::open(name).is_some())?;
    let ended = monitor::run(Start {
        file: &file,
        running: &running,
        secrets: &Secrets::of(&file.app)?,
        sockets,
        streams: Streams::Inherited,
        statistics: None,
        timing: None,
        contained: None,
        started: Box::new(|| {}),
        ended: Box::new(|_| {}),
    })?;
    Ok(ended.tell())
}

impl Args {
    fn edit(&self, program: &mut vmm::app::Program) -> Result<()> {
        if let Some(entrypoint) = &self.entrypoint {
            program.entrypoint = vec![entrypoint.clone()];
            program.args.clear();
        }
        if !self.arguments.is_empty() {
            program.args.clone_from(&self.arguments);
        }
        if self.workdir.is_some() {
            program.cwd.clone_from(&self.workdir);
        }
        if self.no_tty {
            program.tty = Tty::Never;
        }
        if self.user.is_some() {
            program.user.clone_from(&self.user);
        }
        environment::set(&mut program.env, &self.env)
    }
}
