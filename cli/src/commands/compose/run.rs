//! `mvm compose run`: a service's machine once more, for one command.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use vmm::app::{App, AppFile, Port, Restart, Tty};
use vmm::compose::{ComposeFile, Project, SERVICE_LABEL, Service};

use super::ensure_known;
use crate::commands::create;
use crate::commands::run::{
    FileFlags, ProgramFlags, add_labels, claim, ensure_none, published, start_kept,
};
use crate::compose::{Progress, Scope, Starter, Waits, replicas};
use crate::image;
use crate::monitor::{self, Start, Streams};
use crate::secrets::Secrets;
use crate::systemd::Sockets;

/// Run a service's program, or another one, in a machine of its own
///
/// What the service needs is started first and stays. The machine is in the project's networks, is
/// called PROJECT-SERVICE-run, and is never started again; it has no ports of the host but those that
/// are asked for. In the foreground, streams and exit status are the program's, and nothing of the
/// machine is kept. With --detach it is kept when it ends, unless --rm is given; `mvm down` ends and
/// removes it.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// Run in the background, and print the machine's name once the program runs
    #[arg(long, short)]
    detach: bool,
    /// Remove the machine when it ends, as one in the foreground is
    #[arg(long)]
    rm: bool,
    /// Do not start what the service needs
    #[arg(long)]
    no_deps: bool,
    /// Have a port of the host lead to one of the machine; without a number for the host one is picked
    #[arg(long, short, value_name = "[[ADDRESS:][HOST]:]GUEST[/udp]", value_parser = published)]
    publish: Vec<Port>,
    /// With the ports of the host that lead to the service
    #[arg(long, conflicts_with = "publish")]
    service_ports: bool,
    /// With the names that the service has in its networks
    #[arg(long)]
    use_aliases: bool,
    /// Give it no terminal, also if this command has one
    #[arg(long, short = 'T')]
    no_tty: bool,
    /// Name of the machine
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A word about the machine that `mvm ps --filter` looks for, besides `labels`
    #[arg(long, short, value_name = "NAME[=TEXT]")]
    label: Vec<String>,
    #[command(flatten)]
    program: ProgramFlags,
    #[command(flatten)]
    files: FileFlags,
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
    ensure_known(project, std::slice::from_ref(&args.service))?;
    let Some(service) = project.services.get(&args.service) else {
        bail!("there is no service {}", args.service);
    };
    let app = args.machine(project, service)?;
    if !args.no_deps {
        start_needs(&compose, service)?;
    }
    let file = AppFile::of(app, &compose.path().to_string_lossy())?;
    let secrets = Secrets::of(&file.app)?;
    let name = args.name.as_deref();
    if args.detach {
        let record = create::keep(&file, name, args.rm)?;
        let failed = start_kept(&record, &secrets)?;
        return Ok(failed.unwrap_or(ExitCode::SUCCESS));
    }
    let running = claim(&file.app.name, name)?;
    let ended = monitor::run(Start {
        file: &file,
        running: &running,
        secrets: &secrets,
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

/// Starts what a service needs, and waits for what it waits for.
fn start_needs(compose: &ComposeFile, service: &Service) -> Result<()> {
    let project = &compose.project;
    let chosen: BTreeSet<_> = service.depends_on.keys().cloned().collect();
    let mut replicas = replicas(project, &project.with_needs(&chosen), compose.path())?;
    for replica in &mut replicas {
        replica.wanted = service.depends_on.get(&replica.service).copied();
    }
    let progress = Progress::of(&replicas, false);
    Starter::new(&replicas, Waits::default(), progress).carry_out()
}

impl Args {
    /// The machine: one of the service's, with what the flags say.
    ///
    /// # Errors
    /// A flag is wrong, or its image cannot be read.
    fn machine(&self, project: &Project, service: &Service) -> Result<App> {
        let mut app = project.machine(&self.service, service, 1);
        image::complete(&mut app)?;
        app.name = self.name.clone().unwrap_or(format!("{}-run", app.name));
        // It is none of the service's machines, which share its name there.
        app.labels.remove(SERVICE_LABEL);
        add_labels(&mut app, &self.label);
        if !self.use_aliases {
            for interface in app.interfaces.iter_mut().flatten() {
                interface.aliases.clear();
            }
        }
        if !self.service_ports {
            app.ports.clone_from(&self.publish);
        }
        app.restart = Restart::default();
        if self.no_tty {
            app.app.tty = Tty::Never;
        }
        self.program.apply(&self.arguments, &mut app.app)?;
        self.add_files(project, &mut app)?;
        image::settle(&mut app)?;
        ensure_none(&app)?;
        Ok(app)
    }

    /// Adds folders and volumes, of which those that the file has are the project's.
    fn add_files(&self, project: &Project, app: &mut App) -> Result<()> {
        let given = app.volumes.len();
        self.files.apply(app)?;
        for volume in app.volumes.iter_mut().skip(given) {
            project.settle_volume(volume);
        }
        Ok(())
    }
}
