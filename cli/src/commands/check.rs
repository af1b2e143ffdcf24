//! `mvm check`: whether files can be run on this host, with one line for each thing in the way.
//!
//! Problems go to the error output as `file:line:column: path: what`, which editors understand;
//! with `--json` all goes to the output as one list.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::image::is_image;
use anyhow::Context;
use serde::Serialize;
use vmm::app::{AppFile, Complaint, Place, Problem, Problems};
use vmm::compose::is_compose;

use crate::FAILED;
use crate::compose;
use crate::image;
use crate::output::{print, print_json};

/// Check app.json and compose.json files and say all that is wrong with them
///
/// Looks at syntax and values, then at this host: whether the kernel, the shared folders, the
/// entrypoint and its closure are there, and images, those of a project's services too, have a manifest
/// and a configuration for machines like these. Exits with 0 if all files are good, else with 125.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files to check, images as well; "-" is the standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print a JSON list with one object for each file
    #[arg(long)]
    json: bool,
    /// Do not print the names of good files
    #[arg(long, short)]
    quiet: bool,
}

/// What is said about one file with `--json`.
#[derive(Serialize)]
struct Report {
    file: String,
    ok: bool,
    problems: Vec<Problem>,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reports: Vec<Report> = args.files.iter().map(|path| report(path)).collect();
    if args.json {
        print_json(&reports)?;
    } else {
        print_lines(&reports, args.quiet)?;
    }
    let all_good = reports.iter().all(|report| report.ok);
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        FAILED.into()
    })
}

fn report(path: &Path) -> Report {
    let outcome = if is_compose(path) {
        check_project(path)
    } else if is_image(image::path_of(path)) {
        let checked = image::look(&path.to_string_lossy());
        checked.map_err(|error| of_whole(path, &error))
    } else {
        AppFile::load(path).and_then(|file| check_app(&file))
    };
    let problems: Vec<Problem> = outcome
        .err()
        .into_iter()
        .flat_map(Problems::into_iter)
        .collect();
    Report {
        file: path.display().to_string(),
        ok: problems.is_empty(),
        problems,
    }
}

/// What is on this host, and then in the image, if that is there.
fn check_app(file: &AppFile) -> Result<(), Problems> {
    file.check_host()?;
    let Some(name) = &file.app.image else {
        return Ok(());
    };
    image::look(name).map_err(|error| {
        let place = Place::root().key("image");
        let message = format!("{error:#}");
        file.locate(Complaint { place, message }).into()
    })
}

fn check_project(path: &Path) -> Result<(), Problems> {
    let file = compose::load(&[path.to_owned()], None)?;
    file.check_host()?;
    file.check_images(|image| image::look(image).map_err(|error| format!("{error:#}")))
}

fn of_whole(path: &Path, error: &anyhow::Error) -> Problems {
    Problems::from(Problem {
        file: path.display().to_string(),
        line: None,
        column: None,
        path: String::new(),
        message: format!("{error:#}"),
    })
}

fn print_lines(reports: &[Report], quiet: bool) -> anyhow::Result<()> {
    for report in reports {
        for problem in &report.problems {
            writeln!(io::stderr(), "{problem}").context("cannot write what was found")?;
        }
        if report.ok && !quiet {
            print(format!("{}: ok\n", report.file).as_bytes())?;
        }
    }
    Ok(())
}
