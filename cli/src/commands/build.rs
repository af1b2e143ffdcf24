//! `mvm build`: a program with all that it needs, in one file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde::Serialize;
use vmm::app::AppFile;
use vmm::toplevel;

use crate::build::{Interrupt, Target, Work, archive, bundle, ensure_stored, tag};
use crate::image::path_of;
use crate::output::{print, print_json};
use crate::progress::Progress;
use crate::size;

/// Make one file of a program or a system and all that it needs of the store
///
/// The file runs on a host without Nix: `mvm run FILE.mvm`. It has a kernel, the closure of the program or
/// system and the app.json, whose relative paths start at the folder of that file then: shares, volumes
/// and secrets are those of the host that runs it. A system with "kernel": "own" brings that and its
/// initrd. With --oci it is an image for podman and others. The same inputs make the same bytes. Needs
/// mkfs.erofs (erofs-utils), but for --oci and for a system with its own kernel, and no root.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.json, or a system's folder; "-" is the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where it goes; by default NAME.mvm or NAME.oci.tar here. A file that is there is replaced
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Make an OCI archive, which podman runs
    #[arg(long)]
    oci: bool,
    /// What the image is called; by default NAME:latest
    #[arg(long, value_name = "NAME[:TAG]", requires = "oci")]
    tag: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Serialize)]
struct Made<'a> {
    path: &'a Path,
    bytes: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        !image::is_image(path_of(&args.file)),
        "{} is an image, with all that its program needs; `mvm build` takes an app.json",
        args.file.display()
    );
    let file = match toplevel::app_of(&args.file) {
        Some(app) => AppFile::of(app, &args.file.to_string_lossy())?,
        None => AppFile::load(&args.file)?,
    };
    ensure_stored(&file, args.oci)?;
    let ending = if args.oci { "oci.tar" } else { "mvm" };
    let default = || PathBuf::from(format!("{}.{ending}", file.app.name));
    let path = args.output.clone().unwrap_or_else(default);
    let tag = tag(args.tag.as_deref(), &file.app.name)?;
    let work = Work {
        file: &file,
        target: Target::open(&path)?,
        interrupt: Interrupt::listen()?,
        progress: Progress::start(),
    };
    let bytes = if args.oci {
        archive(work, &tag)?
    } else {
        bundle(work)?
    };
    if args.json {
        print_json(&Made { path: &path, bytes })?;
    } else {
        print(format!("{} ({})\n", path.display(), size::bytes(bytes)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
