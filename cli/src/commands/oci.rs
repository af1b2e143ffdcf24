//! `mvm oci`: the command line of an OCI runtime, which is runc's.

mod flags;
mod verbs;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::accel::Accel;
use crate::oci::log::{self, Format};
use crate::oci::runc::Runc;
use crate::output::say;
use flags::{Create, Exec};

/// What runc ends with when it fails; engines expect it.
const FAILED: u8 = 1;

/// Run the containers of podman, docker or containerd as machines
///
/// An OCI runtime: what an engine calls to have a container made. runc makes it, and its process is
/// the monitor of a machine, whose root is the container's. Engines take the path of a runtime: a
/// link to mvm that is called mvm-oci is this command. For example:
///
/// ln -s mvm /usr/local/bin/mvm-oci; podman --runtime /usr/local/bin/mvm-oci run --rm -it IMAGE
///
/// Annotations say what flags of engines do not: mvm.dev/memory=256M and mvm.dev/vcpus=2 are the
/// machine's, mvm.dev/network=none leaves it without a network.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    verb: Verb,
}

/// What stands before the verb.
#[derive(Debug, clap::Args)]
struct Flags {
    /// Where runc keeps what it knows of containers
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Where errors are written, too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How they are written there
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// Have runc tell what it does
    #[arg(long)]
    debug: bool,
    /// Have systemd make the control groups
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether runc is to do without root: true, false or auto
    #[arg(long, value_name = "WHEN")]
    rootless: Option<String>,
    /// Taken for runc, and not used
    #[arg(long, value_name = "PATH")]
    criu: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a container, which does not run yet
    Create(Box<Create>),
    /// Have the program of a container run
    Start {
        /// The container
        id: String,
    },
    /// Make a container and have its program run
    Run(Box<Create>),
    /// Run one more program in a container's machine
    Exec(Box<Exec>),
    /// Tell what is known of a container, as JSON
    State {
        /// The container
        id: String,
    },
    /// Send a signal to a container's program
    Kill(Rest),
    /// Remove what is left of a container
    Delete(Rest),
    /// Stop a container's processors
    Pause(Rest),
    /// Have them go on
    Resume(Rest),
    /// List the processes of a container on the host
    Ps(Rest),
    /// List containers
    List(Rest),
    /// Tell what a container's control group uses
    Events(Rest),
    /// Tell what the runtime can do, as JSON
    Features(Rest),
    /// Write an example of config.json
    Spec(Rest),
    /// Change a container's limits; those of a machine are as it was made
    Update(Rest),
    /// Save a container's state; that of a machine cannot be
    Checkpoint(Rest),
    /// Be the process of a container
    #[command(hide = true)]
    Machine,
    /// Be a program of a container's machine
    #[command(hide = true)]
    Enter {
        /// What it is, as JSON
        entry: String,
        /// The program and its arguments
        #[arg(required = true, last = true)]
        argv: Vec<OsString>,
    },
    /// Be a hook that gives a machine its network; standard input is the container's state
    #[command(hide = true)]
    Hook,
}

/// What runc takes as it is.
#[derive(Debug, clap::Args)]
struct Rest {
    /// As runc takes them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs the command. `accel`: what the command line says of it.
pub fn run(args: &Args, accel: Option<Accel>) -> Result<ExitCode> {
    // In the container its program's words are all that is said.
    let done = match &args.verb {
        Verb::Machine => return crate::oci::inside::machine(),
        Verb::Enter { entry, argv } => return crate::oci::inside::enter(entry, argv),
        verb => carry_out(verb, args.flags.for_runc(), accel),
    };
    Ok(done.unwrap_or_else(|error| {
        let message = format!("{error:#}");
        if let Some(path) = &args.flags.log {
            log::write(path, args.flags.log_format, &message);
        }
        say(format_args!("{message}"));
        FAILED.into()
    }))
}

fn carry_out(verb: &Verb, flags: Vec<OsString>, accel: Option<Accel>) -> Result<ExitCode> {
    let runc = Runc::find(flags)?;
    let pass = |name: &str, rest: &Rest| {
        let words = [name.into()]
            .into_iter()
            .chain(rest.arguments.iter().cloned());
        Err(runc.exec(words))
    };
    match verb {
        Verb::Create(create) => verbs::create(&runc, create, "create", accel),
        Verb::Run(create) => verbs::create(&runc, create, "run", accel),
        Verb::Start { id } => verbs::start(&runc, id),
        Verb::Exec(exec) => verbs::exec(&runc, exec),
        Verb::State { id } => verbs::state(&runc, id),
        Verb::Delete(rest) => pass("delete", rest),
        Verb::Kill(rest) => pass("kill", rest),
        Verb::Pause(rest) => pass("pause", rest),
        Verb::Resume(rest) => pass("resume", rest),
        Verb::Ps(rest) => pass("ps", rest),
        Verb::List(rest) => pass("list", rest),
        Verb::Events(rest) => pass("events", rest),
        Verb::Features(rest) => pass("features", rest),
        Verb::Spec(rest) => pass("spec", rest),
        Verb::Update(rest) => verbs::refuse_for_machines(&runc, "update", &rest.arguments),
        Verb::Checkpoint(rest) => verbs::refuse_for_machines(&runc, "checkpoint", &rest.arguments),
        Verb::Hook => verbs::hook(),
        Verb::Machine | Verb::Enter { .. } => unreachable!("these are carried out without runc"),
    }
}

impl Flags {
    /// The same for runc.
    fn for_runc(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: Option<OsString>| {
            if let Some(value) = value {
                words.extend([flag.into(), value]);
            }
        };
        let path = |path: &Option<PathBuf>| path.clone().map(Into::into);
        add("--root", path(&self.root));
        add("--log", path(&self.log));
        let format = match self.log_format {
            Format::Text => "text",
            Format::Json => "json",
        };
        add("--log-format", Some(format.into()));
        add("--rootless", self.rootless.clone().map(Into::into));
        add("--criu", path(&self.criu));
        words.extend(self.debug.then(|| "--debug".into()));
        words.extend(self.systemd_cgroup.then(|| "--systemd-cgroup".into()));
        words
    }
}
