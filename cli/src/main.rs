//! The `mvm` program: parse, dispatch, print one error, set the exit code.

mod accel;
mod agent;
mod attach;
mod audience;
mod build;
mod carrier;
mod cgroup;
mod commands;
mod compose;
mod control;
mod detach;
mod emulator;
mod environment;
mod events;
mod image;
mod import;
mod init_binary;
mod lasting;
mod logs;
mod machines;
mod monitor;
mod networks;
mod oci;
mod openmetrics;
mod output;
mod places;
mod poll;
mod progress;
mod ready;
mod registration;
mod secrets;
mod size;
mod state;
mod supervise;
mod systemd;
mod table;
mod terminal;
mod tmpfs;
mod usage;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use accel::{Accel, Place};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use vmm::app::Problems;

/// mvm itself failed; every other status is the program's own.
const FAILED: u8 = 125;

/// Run a program in its own Linux virtual machine, with the host's Nix store shared
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// What machines run on; by default KVM, or an emulated host where that is not backed by
    /// hardware. The variable `MVM_ACCEL` says the same
    #[arg(long, value_enum, global = true, value_name = "HOW")]
    accel: Option<Accel>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Run(commands::run::Args),
    Nixos(commands::nixos::Args),
    Create(commands::create::Args),
    Build(commands::build::Args),
    Exec(commands::exec::Args),
    Attach(commands::attach::Args),
    Shell(commands::exec::ShellArgs),
    Login(commands::exec::LoginArgs),
    Cp(commands::cp::Args),
    Start(commands::start::Args),
    Restart(commands::start::RestartArgs),
    Update(commands::update::Args),
    Stop(commands::stop::Args),
    Kill(commands::signal::Args),
    Pause(commands::pause::PauseArgs),
    Unpause(commands::pause::UnpauseArgs),
    Wait(commands::wait::Args),
    Up(commands::compose::UpArgs),
    Down(commands::compose::DownArgs),
    Compose(commands::compose::Args),
    Import(commands::import::Args),
    #[command(visible_alias = "list")]
    Ps(commands::ps::Args),
    Port(commands::port::Args),
    Ip(commands::port::IpArgs),
    Status(commands::inspect::StatusArgs),
    Inspect(commands::inspect::Args),
    Logs(commands::logs::Args),
    Top(commands::top::Args),
    Stats(commands::stats::Args),
    Metrics(commands::metrics::Args),
    Events(commands::events::Args),
    Rm(commands::rm::Args),
    Destroy(commands::rm::DestroyArgs),
    Prune(commands::rm::PruneArgs),
    Check(commands::check::Args),
    Doctor(commands::doctor::Args),
    Settings(commands::settings::Args),
    Version(commands::version::Args),
    Schema(commands::schema::Args),
    Generate(commands::generate::Args),
    Completion(commands::completion::Args),
    Network(commands::network::Args),
    Volume(commands::volume::Args),
    Oci(commands::oci::Args),
    Emulator(emulator::Args),
    Man(commands::man::Args),
    #[command(hide = true)]
    Monitor(commands::monitor::Args),
    #[command(hide = true)]
    Supervise(commands::monitor::SuperviseArgs),
}

/// What a command has to do with machines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concern {
    /// It starts one.
    Starts,
    /// It talks to those that run, or looks for them.
    Finds,
    /// Nothing.
    Nothing,
}

impl Command {
    fn concern(&self) -> Concern {
        match self {
            Self::Run(args) if !args.starts() => Concern::Nothing,
            Self::Run(_) | Self::Start(_) | Self::Restart(_) | Self::Update(_) | Self::Up(_) => {
                Concern::Starts
            }
            Self::Compose(args) if args.starts() => Concern::Starts,
            // Where they will be started is where their ends are heard of.
            Self::Wait(args) if args.is_early() => Concern::Starts,
            Self::Compose(args) if !args.finds() => Concern::Nothing,
            Self::Network(args) if !args.finds() => Concern::Nothing,
            // It becomes a command that starts one.
            Self::Nixos(_)
            | Self::Check(_)
            | Self::Doctor(_)
            | Self::Settings(_)
            | Self::Version(_)
            | Self::Schema(_)
            | Self::Import(_)
            | Self::Build(_)
            | Self::Generate(_)
            | Self::Completion(_)
            | Self::Man(_)
            | Self::Events(_)
            | Self::Oci(_)
            | Self::Emulator(_)
            | Self::Monitor(_)
            | Self::Supervise(_) => Concern::Nothing,
            _ => Concern::Finds,
        }
    }

    fn carry_out(&self, accel: Option<Accel>) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => commands::run::run(args, accel),
            Self::Nixos(args) => commands::nixos::run(args, accel, is_sound),
            Self::Create(args) => commands::create::run(args),
            Self::Build(args) => commands::build::run(args),
            Self::Exec(args) => commands::exec::run(args),
            Self::Attach(args) => commands::attach::run(args),
            Self::Shell(args) => commands::exec::shell(args),
            Self::Login(args) => commands::exec::login(args),
            Self::Cp(args) => commands::cp::run(args),
            Self::Start(args) => commands::start::run(args),
            Self::Restart(args) => commands::start::restart(args),
            Self::Update(args) => commands::update::run(args),
            Self::Stop(args) => commands::stop::run(args),
            Self::Kill(args) => commands::signal::run(args),
            Self::Pause(args) => commands::pause::pause(args),
            Self::Unpause(args) => commands::pause::unpause(args),
            Self::Wait(args) => commands::wait::run(args),
            Self::Up(args) => commands::compose::run_up(args),
            Self::Down(args) => commands::compose::run_down(args),
            Self::Compose(args) => commands::compose::run(args),
            Self::Import(args) => commands::import::run(args),
            Self::Ps(args) => commands::ps::run(args),
            Self::Port(args) => commands::port::run(args),
            Self::Ip(args) => commands::port::ip(args),
            Self::Status(args) => commands::inspect::status(args),
            Self::Inspect(args) => commands::inspect::run(args),
            Self::Logs(args) => commands::logs::run(args),
            Self::Top(args) => commands::top::run(args),
            Self::Stats(args) => commands::stats::run(args),
            Self::Metrics(args) => commands::metrics::run(args),
            Self::Events(args) => commands::events::run(args),
            Self::Rm(args) => commands::rm::run(args),
            Self::Destroy(args) => commands::rm::destroy(args),
            Self::Prune(args) => commands::rm::prune(args),
            Self::Check(args) => commands::check::run(args),
            Self::Doctor(args) => commands::doctor::run(args),
            Self::Settings(args) => commands::settings::run(args),
            Self::Version(args) => commands::version::run(args),
            Self::Schema(args) => commands::schema::run(args),
            Self::Generate(args) => commands::generate::run(args),
            Self::Completion(args) => commands::completion::run(args),
            Self::Man(args) => commands::man::run::<Cli>(args),
            Self::Network(args) => commands::network::run(args),
            Self::Volume(args) => commands::volume::run(args),
            Self::Oci(args) => commands::oci::run(args, accel),
            Self::Emulator(args) => emulator::run(args),
            Self::Monitor(args) => commands::monitor::run(args),
            Self::Supervise(args) => commands::monitor::supervise(args),
        }
    }
}

fn main() -> ExitCode {
    match commands::completion::answer(whole) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return told(&error),
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    let result = carry_out(&cli);
    result.unwrap_or_else(|error| {
        match error.downcast_ref::<Problems>() {
            // Each begins with the file and the line, as editors expect. Nobody to tell when the
            // stream is closed.
            Some(problems) => drop(writeln!(io::stderr(), "{problems}")),
            None => output::say(format_args!("{error:#}")),
        }
        ExitCode::from(FAILED)
    })
}

/// Parses the command line.
///
/// What a command takes is put together when the line names that command: for all of them it takes
/// longer than anything else that happens before a machine is made. Help tells of them all.
fn parse() -> clap::error::Result<Cli> {
    let line = || command_line(env::args_os());
    Cli::try_parse_from(line())
        .or_else(|_| Cli::from_arg_matches(&whole().try_get_matches_from(line())?))
}

/// The words of a command line. By the name of `mvm-oci` this program is `mvm oci`: engines take the
/// path of a runtime, and no arguments.
fn command_line(mut words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let own = words.next().unwrap_or_else(|| "mvm".into());
    let is_runtime = Path::new(&own).file_name() == Some("mvm-oci".as_ref());
    let command = is_runtime.then(|| "oci".into());
    [own].into_iter().chain(command).chain(words).collect()
}

/// Whether `mvm` takes these arguments.
///
/// # Errors
/// It does not; says why.
fn is_sound(arguments: &[OsString]) -> anyhow::Result<()> {
    let own = OsString::from("mvm");
    let line: Vec<_> = [&own].into_iter().chain(arguments).cloned().collect();
    match whole().try_get_matches_from(&line) {
        Err(error) if error.use_stderr() => {
            anyhow::bail!("{}", usage::sentence(&error, &whole(), &line))
        }
        _ => Ok(()),
    }
}

/// The command line with what each command takes.
fn whole() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Tells what is wrong with the command line, or the help that it asks for.
fn told(error: &clap::Error) -> ExitCode {
    usage::tell(error, &whole(), &command_line(env::args_os()))
}

/// Carries a command out where the machines are.
fn carry_out(cli: &Cli) -> anyhow::Result<ExitCode> {
    let concern = cli.command.concern();
    if concern == Concern::Nothing {
        return cli.command.carry_out(cli.accel);
    }
    let place = match Accel::place(cli.accel) {
        // What runs can be looked at and ended whatever a file of settings says.
        Err(error) if concern == Concern::Finds => {
            output::say(format_args!("{error:#}; it is not heeded"));
            Accel::place(Some(Accel::Auto))?
        }
        other => other?,
    };
    match place {
        // An emulated host that does not run has no machine to be found.
        Place::EmulatedHost { reason } if concern == Concern::Starts || emulator::is_running()? => {
            emulator::carry_out(&reason)
        }
        _ => cli.command.carry_out(cli.accel),
    }
}

#[cfg(test)]
mod tests {
    use super::{command_line, whole};

    #[test]
    fn the_command_line_is_sound() {
        whole().debug_assert();
    }

    #[test]
    fn engines_find_a_runtime_by_its_name() {
        let words = |words: &[&str]| command_line(words.iter().map(Into::into));
        let runtime = words(&["/usr/bin/mvm-oci", "--root", "/run", "state", "x"]);
        assert_eq!(
            runtime,
            ["/usr/bin/mvm-oci", "oci", "--root", "/run", "state", "x"]
        );
        assert_eq!(words(&["mvm", "ps"]), ["mvm", "ps"]);
    }
}
