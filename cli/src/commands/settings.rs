//! `mvm settings`: what is set for all machines, and where.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use vmm::settings::{Origin, Setting};

use crate::output::{print, print_json};

/// Print what is set for all machines, and where
///
/// Each setting is a variable and a key of mvm.conf: that of the user (in ~/.config/mvm) wins over that
/// of the system (in /etc/mvm), the variable over both, and what a command line or an app.json says over
/// all.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A setting, as it is printed.
#[derive(Serialize)]
struct Row {
    key: &'static str,
    variable: &'static str,
    value: Option<String>,
    origin: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let rows: Vec<_> = Setting::ALL.into_iter().map(row).collect::<Result<_>>()?;
    if args.json {
        print_json(&rows)?;
    } else {
        print(table(&rows)?.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(setting: Setting) -> Result<Row> {
    let value = setting.get()?;
    let origin = |origin: &Origin| match origin {
        Origin::Variable(name) => format!("${name}"),
        Origin::File(path, _) => path.display().to_string(),
    };
    Ok(Row {
        key: setting.key(),
        variable: setting.variable(),
        origin: value.as_ref().map(|value| origin(&value.origin)),
        value: value.map(|value| value.text.to_string_lossy().into_owned()),
    })
}

fn table(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{:21} {:27} {:20} FROM",
        "SETTING", "VARIABLE", "VALUE"
    )?;
    for row in rows {
        let value = row.value.as_deref().unwrap_or("-");
        let origin = row.origin.as_deref().unwrap_or("default");
        writeln!(
            text,
            "{:21} {:27} {value:20} {origin}",
            row.key, row.variable
        )?;
    }
    Ok(text)
}
