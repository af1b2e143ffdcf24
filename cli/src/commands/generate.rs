//! `mvm generate`: files for other programs that start machines.

mod socket;
mod systemd;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use vmm::app::App;

use crate::image;
use crate::machines;
use crate::output::{print, say};
use systemd::{Manager, Unit};

/// Write a file by which another program starts a machine
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a unit of systemd's that runs a machine as a service
    ///
    /// The unit is ready once the machine's program runs, and fails with its status. What the
    /// program says goes to the journal. It names files where they are now: the app.json, or the
    /// kept machine, and mvm itself. For each port that systemd listens at ("systemd:NAME") there is
    /// a .socket unit besides: who connects starts the machine. The installed unit mvm@NAME.service
    /// runs /etc/mvm/NAME.json without any of this.
    Systemd {
        /// A kept machine, or else an app.json
        #[arg(value_name = "NAME|FILE")]
        what: String,
        /// For the user's own systemd rather than the system's; root's is the system's unless this
        /// is given
        #[arg(long)]
        user: bool,
        /// Write the file where systemd looks for it, instead of printing it
        #[arg(long)]
        install: bool,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let What::Systemd {
        what,
        user,
        install,
    } = &args.what;
    let manager = if *user || !rustix::process::getuid().is_root() {
        Manager::User
    } else {
        Manager::System
    };
    let (name, command, app) = command(what)?;
    let sockets = socket::sockets(&name, &app);
    let unit = Unit {
        name: &name,
        command: &command,
        manager,
        app: &app,
    };
    let mut units = vec![(unit.file_name(), unit.to_string())];
    units.extend(
        sockets
            .iter()
            .map(|socket| (socket.file_name(), socket.to_string())),
    );
    if *install {
        return write(&units, manager);
    }
    let texts: Vec<_> = units.into_iter().map(|(_, text)| text).collect();
    print(texts.join("\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes units, each a file's name and its text, to where systemd looks for them.
fn write(units: &[(String, String)], manager: Manager) -> Result<ExitCode> {
    let folder = manager.folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in units {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        print(format!("{}\n", path.display()).as_bytes())?;
    }
    say(format_args!(
        "`systemctl {}daemon-reload` has systemd read {}",
        manager.flag(),
        if units.len() == 1 { "it" } else { "them" }
    ));
    Ok(ExitCode::SUCCESS)
}

/// The name of a machine, the command that runs it in the foreground, and what it is made from.
fn command(what: &str) -> Result<(String, Vec<String>, App)> {
    let mvm = env::current_exe().context("cannot tell where mvm is")?;
    let mvm = text(&mvm)?;
    if !image::path_of(Path::new(what)).is_file() {
        let machine = machines::find(what)?;
        let app = machine.kept()?.app_file()?.app;
        let command = [&mvm, "start", "--attach", &machine.name].map(Into::into);
        return Ok((machine.name, command.into(), app));
    }
    let file = std::path::absolute(what).with_context(|| format!("cannot find {what}"))?;
    let app = image::load(&file)?.app;
    let name = app.name.clone();
    let command = [&mvm, "run", "--name", &name, &text(&file)?].map(Into::into);
    Ok((name, command.into(), app))
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str();
    let text = text.with_context(|| format!("{} is not UTF-8, as units are", path.display()))?;
    Ok(text.to_owned())
}
