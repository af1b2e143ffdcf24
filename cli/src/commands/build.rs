//! `mvm build`: a program with all that it needs, in one file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde::Serialize;
use vmm::app::AppFile;

use crate::build::{Interrupt, Progress, Target, Work, archive, bundle, ensure_program, tag};
use crate::output::{print, print_json};
use crate::size;

/// Make one file of a program and all that it needs of the store
///
/// The file runs on a host without Nix: `mvm run FILE.mvm`. It has a kernel, the closure of the program and
/// the app.json, whose relative paths start at the folder of that file then: shares, volumes and secrets
/// are those of the host that runs it. With --oci it is an image for podman and others. The same inputs
/// make the same bytes. Needs mkfs.erofs (erofs-utils), but for --oci, and no root.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app.json; "-" is the standard input
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
        !image::is_image(&args.file),
        "{} is an image, with all that its program needs; `mvm build` takes an app.json",
        args.file.display()
    );
    let file = AppFile::load(&args.file)?;
    ensure_program(&file)?;
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
