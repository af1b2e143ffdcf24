//! `mvm run`: one program in its own machine, from the file to the exit status.

mod edit;
mod plan;

use std::env;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{anyhow, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use vmm::app::AppFile;

use super::stop::Timeout;
use super::{create, rm};
use crate::accel::Accel;
use crate::detach;
use crate::image;
use crate::machines::{Machine, Record, Running};
use crate::monitor::timing::{Format, Timing};
use crate::monitor::{self, Start, Streams};
use crate::output::{print, say};
use crate::ready;
use crate::secrets::Secrets;
use crate::systemd::Sockets;

/// Run the program of an app.json, or of a container image, in a machine of its own
///
/// Standard input, output and error are the program's, and so is the exit status: its own, or
/// 128+n if signal n killed it; 127 if it was not found in the machine, 126 if it cannot be
/// executed, 125 if mvm itself failed. Ctrl-C goes to the program; a second one ends the machine,
/// or the third within a second where the program has a terminal.
///
/// With --detach the machine runs in the background, and is kept when it ends: `mvm logs` shows what
/// the program said, `mvm start` starts it again, `mvm rm` removes it.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// The app.json; or an image: what `docker save` writes, an OCI archive or the folder of an OCI
    /// layout, nix2container's image.json, the folder of a root file system. "-" is the standard input.
    /// Of several images one is chosen by name (images.tar:shop/web:1) or number (images.tar@0)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    edits: Edits,
    /// Run in the background, and print the machine's name once the program runs
    #[arg(long, short)]
    detach: bool,
    /// Remove the machine when it ends, as one in the foreground is
    #[arg(long)]
    rm: bool,
    /// Stop and remove the machine of that name first, if there is one
    #[arg(long)]
    replace: bool,
    /// Print what would be done as JSON: the file with all flags, the kernel, the size of the closure
    /// and the like; do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ready: ready::Args,
    /// Write what the guest asked of each share, and how it was confined, to a JSON file at the end
    #[arg(long, value_name = "PATH", conflicts_with = "detach")]
    statistics: Option<PathBuf>,
    /// Say on standard error at the end how long each phase of the start took, how often the guest was
    /// left in it, and how many instructions it carried out, where the host counts them for this user
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        conflicts_with = "detach"
    )]
    timing: Option<Format>,
}

pub use edit::{Edits, FileFlags, ProgramFlags, add_labels, ensure_none, published};

/// Runs the command. `accel`: what the command line says of it.
pub fn run(args: &Args, accel: Option<Accel>) -> anyhow::Result<ExitCode> {
    let timing = args.timing.map(|_| Timing::begin());
    // Before there is a child that could have them.
    let sockets = Sockets::receive()?;
    args.ensure_policy_is_kept()?;
    let mut file = image::load(&args.file)?;
    args.edits.apply(&mut file.app)?;
    if args.dry_run {
        return plan::print(&file, args.name(&file), args.replace, accel);
    }
    if args.detach {
        return detached(args, &file);
    }
    args.ready.ensure_not_asked()?;
    let secrets = Secrets::of(&file.app)?;
    args.make_room(&file)?;
    let running = claim(&file.app.name, args.name(&file))?;
    let ended = monitor::run(Start {
        file: &file,
        running: &running,
        secrets: &secrets,
        sockets,
        streams: Streams::Inherited,
        statistics: args.statistics.as_deref(),
        timing: timing.as_ref(),
        contained: None,
        started: Box::new(|| {}),
        ended: Box::new(|_| {}),
    })?;
    if let (Some(timing), Some(format)) = (&timing, args.timing) {
        timing.tell(format);
    }
    if ended.reboots {
        drop(running);
        return Err(run_again(args, &file));
    }
    Ok(ended.tell())
}

/// Carries the same command out once more, in this process. Returns only if it cannot.
fn run_again(args: &Args, file: &AppFile) -> anyhow::Error {
    let mut again = Command::new("/proc/self/exe");
    again.args(env::args_os().skip(1));
    if args.file == Path::new("-") {
        // Standard input is used up, and what was in it is still known.
        match copy_of(file.text()) {
            Ok(copy) => again.stdin(copy),
            Err(error) => return error,
        };
    }
    anyhow!(again.exec()).context("cannot start the machine again after its system rebooted")
}

/// A file in memory, read from its beginning.
fn copy_of(text: &str) -> anyhow::Result<File> {
    let mut file = File::from(memfd_create(c"app.json", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

impl Args {
    /// Whether a machine is started.
    pub fn starts(&self) -> bool {
        !self.dry_run
    }

    /// # Errors
    /// --restart asks for what nobody would do.
    fn ensure_policy_is_kept(&self) -> anyhow::Result<()> {
        let restarts = self.edits.restarts();
        ensure!(
            !restarts || self.detach,
            "--restart: only a machine in the background is started again; add --detach"
        );
        ensure!(
            !restarts || !self.rm,
            "--restart: a machine that --rm removes at its end is not started again"
        );
        Ok(())
    }

    /// The name that the machine must have; none: it may have a number behind the file's.
    fn name<'a>(&'a self, file: &'a AppFile) -> Option<&'a str> {
        let replaced = self.replace.then_some(file.app.name.as_str());
        self.edits.name().or(replaced)
    }

    /// Has the machine go that this one replaces.
    fn make_room(&self, file: &AppFile) -> anyhow::Result<()> {
        match self.name(file) {
            Some(name) if self.replace => {
                rm::stop_and_forget(&Machine::named(name), &Timeout::default())
            }
            _ => Ok(()),
        }
    }
}

/// The folder of a machine called `name`, or `base` and a number that nobody has.
///
/// # Errors
/// A machine of that name exists.
pub fn claim(base: &str, name: Option<&str>) -> anyhow::Result<Running> {
    let is_kept = |name: &str| Record::open(name).is_some();
    let Some(name) = name else {
        return Running::create(base, is_kept);
    };
    if is_kept(name) {
        bail!("there is a machine {name} already; `mvm rm {name}` removes it");
    }
    match Running::claim(name)? {
        Some(running) => Ok(running),
        None => bail!("a machine {name} runs already"),
    }
}

fn detached(args: &Args, file: &AppFile) -> anyhow::Result<ExitCode> {
    let secrets = Secrets::of(&file.app)?;
    args.make_room(file)?;
    let record = create::keep(file, args.name(file), args.rm)?;
    match start_kept(&record, &secrets)? {
        None => args.ready.wait(&record).map(|()| ExitCode::SUCCESS),
        Some(status) => Ok(status),
    }
}

/// Starts a machine in the background that has just been kept, and prints its name. Returns the status
/// of one whose program could not be run, which is removed.
///
/// # Errors
/// It could not be started, and is removed.
pub fn start_kept(record: &Record, secrets: &Secrets) -> anyhow::Result<Option<ExitCode>> {
    let started = detach::start(record, secrets);
    match &started {
        Ok(None) => print(format!("{}\n", record.name()).as_bytes())?,
        // Of a machine that has never run nothing is worth keeping.
        _ => record.remove()?,
    }
    Ok(started?.map(|end| {
        say(format_args!("{}", end.reason.unwrap_or_default()));
        end.status.into()
    }))
}
