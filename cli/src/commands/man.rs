//! `mvm man`: manual pages, from the definition of the command line and the schema of app.json.

mod format;

use std::fs;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::{Command, CommandFactory};
use clap_mangen::{Man, generate_to};
use vmm::app::suggest::nearest;

use crate::output::print;

/// What the format of the file is called among commands.
pub const FORMAT: &str = "app.json";

/// Show the manual page of a command
///
/// On a terminal by man(1), or as the command's help where there is none; elsewhere the page is printed
/// as man(1) reads it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command, such as run or compose up; "app.json" is the format of the file
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write all pages to a folder instead: man1/mvm-run.1 and so on, and man5/mvm-app.json.5
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run<C: CommandFactory>(args: &Args) -> Result<ExitCode> {
    match &args.dir {
        Some(folder) => write_all::<C>(folder)?,
        None => show(&args.command, C::command())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(words: &[String], mut whole: Command) -> Result<()> {
    if words == [FORMAT] {
        let page = format::page();
        if !io::stdout().is_terminal() {
            return print(page.as_bytes());
        }
        let is_shown = show_by_man(page.as_bytes())?;
        ensure!(is_shown, "there is no man to show it (package man-db)");
        return Ok(());
    }
    whole.build();
    let mut command = find(&whole, words)?.clone();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    if !io::stdout().is_terminal() {
        return print(&page);
    }
    if show_by_man(&page)? {
        return Ok(());
    }
    print(command.render_long_help().to_string().as_bytes())
}

/// The command that is called so.
fn find<'a>(whole: &'a Command, words: &[String]) -> Result<&'a Command> {
    words.iter().try_fold(whole, |command, word| {
        if let Some(below) = command.find_subcommand(word) {
            return Ok(below);
        }
        let all = command.get_subcommands().filter(|one| !one.is_hide_set());
        let mut names: Vec<_> = all.map(Command::get_name).collect();
        names.push(FORMAT);
        match nearest(word, &names) {
            Some(meant) => bail!("there is no page of {word:?}; did you mean {meant:?}?"),
            None => bail!("there is no page of {word:?}; `mvm --help` lists all commands"),
        }
    })
}

/// False if there is no man(1).
fn show_by_man(page: &[u8]) -> Result<bool> {
    let mut man = process::Command::new("man");
    let man = man.args(["--local-file", "-"]).stdin(Stdio::piped());
    let mut man = match man.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.context("cannot execute man")?,
    };
    if let Some(mut input) = man.stdin.take() {
        // One that ends before it has read all says why by itself.
        let _ = input.write_all(page);
    }
    let status = man.wait().context("cannot wait for man")?;
    ensure!(status.success(), "man failed ({status})");
    Ok(true)
}

fn write_all<C: CommandFactory>(folder: &Path) -> Result<()> {
    let (commands, formats) = (folder.join("man1"), folder.join("man5"));
    let write = || {
        fs::create_dir_all(&commands)?;
        generate_to(C::command(), &commands)?;
        fs::create_dir_all(&formats)?;
        fs::write(formats.join("mvm-app.json.5"), format::page())
    };
    let folder = folder.display();
    write().with_context(|| format!("cannot write manual pages to {folder}"))
}
