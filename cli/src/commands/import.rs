//! `mvm import`: a compose file of Docker's as a compose.json.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::import;
use crate::output::{print, say};

/// Make a compose.json of a docker-compose.yml, or of several
///
/// Each file is put over those before it, and what they include and extend is in what comes out. What
/// cannot be converted, or means something else then, is named on standard error, each with its line.
/// Ports that the file gives no address are open to all, as Docker has it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the compose.json goes, instead of standard output; one that is there is not replaced
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let first = args.files.first().context("no file is named")?;
    let folder = first.parent().unwrap_or(Path::new("."));
    let read = |path: &PathBuf| {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        Ok((shown, text))
    };
    let files: Vec<_> = args.files.iter().map(read).collect::<Result<_>>()?;
    let imported = import::convert(folder, &files)?;
    for remark in &imported.remarks {
        writeln!(io::stderr(), "{remark}").context("cannot write what was found")?;
    }
    if let ([file], Some(beside)) = (&args.files[..], override_of(first)) {
        let (file, beside) = (file.display(), beside.display());
        say(format_args!(
            "{beside} is not read, which docker puts over {file}; `mvm import {file} {beside}` does so"
        ));
    }
    match &args.output {
        None => print(imported.text.as_bytes())?,
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            let file = file.and_then(|mut file| file.write_all(imported.text.as_bytes()));
            file.with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that Docker puts over one of its default names, if it is there.
fn override_of(file: &Path) -> Option<PathBuf> {
    let stem = file.file_stem()?.to_str()?;
    let is_default = ["compose", "docker-compose"].contains(&stem);
    let names = ["yml", "yaml"].map(|kind| file.with_file_name(format!("{stem}.override.{kind}")));
    names.into_iter().find(|path| is_default && path.exists())
}
