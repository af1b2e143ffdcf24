//! `mvm import`: a compose file of Docker's as a compose.json.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::import;
use crate::output::print;

/// Make a compose.json of a docker-compose.yml
///
/// What cannot be converted, or means something else then, is named on standard error, each with its
/// line. Ports that the file gives no address are open to all, as Docker has it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file
    file: PathBuf,
    /// Where the compose.json goes, instead of standard output; one that is there is not replaced
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let shown = args.file.display();
    let text = fs::read_to_string(&args.file).with_context(|| format!("cannot read {shown}"))?;
    let folder = args.file.parent().unwrap_or(Path::new("."));
    let imported = import::convert(&shown.to_string(), folder, &text)
        .with_context(|| format!("cannot convert {shown}"))?;
    for remark in &imported.remarks {
        writeln!(io::stderr(), "{remark}").context("cannot write what was found")?;
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
