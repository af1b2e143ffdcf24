//! `mvm cp`: files and folders, between this host and a machine that runs.
//!
//! The one thing to know: what comes from a guest is hostile. It is unpacked beneath the destination's
//! folder, without a link being followed, by a thread that has given up all other files.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use guest::archive::{Cut, Destination, Form, Rules, Source, unpack};
use guest::roles;
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use crate::agent::{self, null, pipe};
use crate::machines;
use crate::output::say;

/// Enough that a pipe's reader is woken seldom.
const BUFFER: usize = 64 << 10;

/// Copy files and folders between this host and a machine that runs
///
/// One of the two paths is NAME:PATH, within the machine. As with cp(1), the copy goes into a folder
/// that exists, and else gets the name that is given; FOLDER/. is what is in a folder, without the
/// folder itself. "-" on this side is an archive as of tar(1), on standard input or output. Links are
/// copied as links. Write a local path that contains a colon as ./PATH.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is copied: NAME:PATH, PATH, or "-"
    #[arg(value_name = "FROM")]
    from: OsString,
    /// Where to: PATH, NAME:PATH, or "-"
    #[arg(value_name = "TO")]
    to: OsString,
    /// Keep owners and groups by their numbers; to this host only root can
    #[arg(long, short)]
    archive: bool,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Standard input or output.
    Stream,
    Host(PathBuf),
    Guest {
        name: String,
        path: PathBuf,
    },
}

impl Place {
    fn of(word: &OsString) -> Result<Self> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
            return Ok(Self::Host(word.into()));
        };
        let (name, path) = (&bytes[..colon], &bytes[colon + 1..]);
        if name.is_empty() || name.contains(&b'/') || name.starts_with(b".") {
            return Ok(Self::Host(word.into()));
        }
        ensure!(
            !path.is_empty(),
            "{} has no path behind the colon",
            word.display()
        );
        Ok(Self::Guest {
            name: String::from_utf8(name.to_vec()).context("a machine's name is text")?,
            path: OsString::from_vec(path.to_vec()).into(),
        })
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let exact = |name: &str| Ok::<_, anyhow::Error>(machines::find(name)?.name);
    let owners = args.archive;
    match (Place::of(&args.from)?, Place::of(&args.to)?) {
        (Place::Guest { name, path }, Place::Host(to)) => fetch(&exact(&name)?, path, &to, owners),
        (Place::Guest { name, path }, Place::Stream) => fetch_stream(&exact(&name)?, path),
        (Place::Host(from), Place::Guest { name, path }) => {
            send(&exact(&name)?, &from, path, owners)
        }
        (Place::Stream, Place::Guest { name, path }) => send_stream(&exact(&name)?, path, owners),
        (Place::Guest { .. }, Place::Guest { .. }) => {
            bail!("copies from machine to machine are made by way of this host")
        }
        _ => bail!("one of the two paths must be NAME:PATH, within a machine"),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(name: &str, from: PathBuf, to: &Path, owners: bool) -> Result<()> {
    let destination = Destination::find(to, Form::Copy)?;
    let (read, write) = pipe()?;
    let rules = Rules {
        owners,
        ..Rules::default()
    };
    let unpacked = spawn("unpack", move || {
        confine(&destination)?;
        unpack(File::from(read), &destination, rules)
    })?;
    let told = agent::carry_out(name, [roles::ARCHIVE.into(), from.into()], None, write);
    match join(unpacked) {
        // The guest then heard that nobody reads on, which is not the reason.
        Err(error) if !error.is::<Cut>() => {
            Err(error.context(format!("cannot copy what {name} sends")))
        }
        unpacked => told.and(unpacked),
    }
}

fn fetch_stream(name: &str, from: PathBuf) -> Result<()> {
    ensure!(
        !io::stdout().is_terminal(),
        "an archive is nothing for a terminal; redirect standard output"
    );
    let output = copy_of(io::stdout().as_fd())?;
    agent::carry_out(name, [roles::ARCHIVE.into(), from.into()], None, output)
}

fn send(name: &str, from: &Path, to: PathBuf, owners: bool) -> Result<()> {
    let source = Source::find(from)?;
    let (read, write) = pipe()?;
    let packed = spawn("pack", move || {
        let out = BufWriter::with_capacity(BUFFER, File::from(write));
        source.pack(out, &mut |path, what| {
            say(format_args!("left out {}, which is {what}", path.display()));
        })
    })?;
    let told = agent::carry_out(name, extract(owners, false, to), Some(read), null()?);
    match join(packed) {
        // The guest read no more, and says why.
        Err(error) if is_broken_pipe(&error) => told.and(Err(error)),
        packed => packed.and(told),
    }
}

fn send_stream(name: &str, to: PathBuf, owners: bool) -> Result<()> {
    ensure!(
        !io::stdin().is_terminal(),
        "an archive is nothing that a terminal sends; redirect standard input"
    );
    let input = copy_of(io::stdin().as_fd())?;
    agent::carry_out(name, extract(owners, true, to), Some(input), null()?)
}

fn extract(owners: bool, is_stream: bool, to: PathBuf) -> Vec<OsString> {
    let mut role = vec![OsString::from(roles::EXTRACT)];
    role.extend(owners.then(|| roles::WITH_OWNERS.into()));
    role.extend(is_stream.then(|| roles::STREAM.into()));
    role.push(to.into());
    role
}

/// Takes from the calling thread all that unpacking does not need, as far as the kernel can.
fn confine(destination: &Destination) -> Result<()> {
    let newest = ABI::V9;
    let files = AccessFs::from_all(newest);
    let not_needed = AccessFs::Execute
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::IoctlDev;
    let confine = || {
        Ruleset::default()
            .handle_access(files)?
            .handle_access(AccessNet::from_all(newest))?
            .scope(Scope::from_all(newest))?
            .create()?
            .add_rule(PathBeneath::new(destination.folder(), files & !not_needed))?
            .restrict_self()
    };
    confine().context("cannot confine what unpacks the archive")?;
    Ok(())
}

fn copy_of(stream: impl AsFd) -> Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(stream, 3);
    copy.context("cannot copy a standard stream")
}

fn spawn(
    name: &str,
    act: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(act).context("cannot start a thread")
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    let joined = thread.join();
    joined.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_broken = |error: &io::Error| error.kind() == ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(is_broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_before_a_colon() {
        let place = |word: &str| Place::of(&word.into()).unwrap();
        let guest = Place::Guest {
            name: "web".into(),
            path: "/a:b".into(),
        };
        assert_eq!(place("web:/a:b"), guest);
        assert_eq!(place("-"), Place::Stream);
        for host in ["file", "./web:/a", "/a/web:b", ":a", "..:a"] {
            assert_eq!(place(host), Place::Host(host.into()));
        }
        assert!(Place::of(&"web:".into()).is_err());
    }

    #[test]
    fn a_confined_thread_writes_to_the_destination_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("in")).unwrap();
        let destination = Destination::find(&at("in"), Form::Copy).unwrap();
        let (inside, outside) = (at("in/file"), at("out"));
        let (inside, outside) = thread::spawn(move || {
            confine(&destination).unwrap();
            (File::create(inside), File::create(outside))
        })
        .join()
        .unwrap();
        inside.unwrap();
        // A kernel without Landlock has the names and the opening beneath the folder alone.
        if std::fs::read_to_string("/sys/kernel/security/lsm")
            .is_ok_and(|lsm| lsm.contains("landlock"))
        {
            assert_eq!(outside.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }
}
