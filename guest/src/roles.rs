//! What `mvm-init` does as a program of a guest that is set up, for commands of the host.
//!
//! The one thing to know: each is executed through the agent as any program is, so its streams and
//! its status reach the host as any program's do. An error is the last line on standard error.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::agent::SERVE;
use crate::archive::{Destination, Form, Rules, Source, unpack};
use crate::memory::{OOM_KILLS, oom_kills};
use crate::notify::{self, NOTIFY};
use crate::probe::{self, PROBE};
use crate::processes::Report;
use crate::registration::{self, REGISTER};
use crate::renewal::{self, RENEW};
use crate::system::{self, PREPARE};
use crate::visit;

/// Writes the archive of a path to standard output.
pub const ARCHIVE: &str = "archive";

/// Unpacks the archive that standard input is; the last argument is the path.
pub const EXTRACT: &str = "extract";

/// An argument of [`EXTRACT`]: owners and special bits as in the archive.
pub const WITH_OWNERS: &str = "--owners";

/// An argument of [`EXTRACT`]: an archive of anything, into a folder.
pub const STREAM: &str = "--stream";

/// Writes a [`Report`] as JSON to standard output.
pub const PROCESSES: &str = "processes";

/// The status of a role that failed.
const FAILED: i32 = 1;

/// Enough that a pipe's reader is woken seldom.
const BUFFER: usize = 64 << 10;

/// Carries the role out. Returns the status to exit with.
pub fn run(role: &OsStr, arguments: &[OsString]) -> i32 {
    if role == SERVE {
        return visit::run();
    }
    match carry_out(role, arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:#}");
            FAILED
        }
    }
}

fn carry_out(role: &OsStr, arguments: &[OsString]) -> Result<()> {
    let (path, flags) = match arguments.split_last() {
        Some((path, flags)) => (Path::new(path), flags),
        None => (Path::new("/"), arguments),
    };
    let has = |flag: &str| flags.iter().any(|word| word == flag);
    match role.to_str() {
        Some(ARCHIVE) => archive(path),
        Some(EXTRACT) => extract(path, has(STREAM), has(WITH_OWNERS)),
        Some(PROCESSES) => report(),
        Some(PROBE) => probe::run(arguments),
        Some(REGISTER) => registration::run(arguments),
        Some(RENEW) => renewal::run(),
        Some(PREPARE) => system::run(arguments),
        Some(NOTIFY) => notify::run(path),
        Some(OOM_KILLS) => {
            println!("{}", oom_kills()?);
            Ok(())
        }
        _ => bail!("mvm-init knows no role {}", role.display()),
    }
}

fn archive(path: &Path) -> Result<()> {
    let source = Source::find(path)?;
    let out = io::stdout().as_fd().try_clone_to_owned();
    let out = File::from(out.context("there is no standard output")?);
    source.pack(BufWriter::with_capacity(BUFFER, out), &mut |path, what| {
        eprintln!("left out {}, which is {what}", path.display());
    })
}

fn report() -> Result<()> {
    let report = Report::now()?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &report).context("cannot tell what runs")?;
    // At its end this process throws away what was not.
    out.flush().context("cannot tell what runs")
}

fn extract(path: &Path, is_stream: bool, owners: bool) -> Result<()> {
    let form = if is_stream { Form::Stream } else { Form::Copy };
    let rules = Rules {
        owners,
        special_bits: owners,
        hard_links: true,
    };
    unpack(io::stdin().lock(), &Destination::find(path, form)?, rules)
}
