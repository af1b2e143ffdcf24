//! A system that runs becomes another one, as by `nixos-rebuild test`.
//!
//! The one thing to know: the machine's store shows more from then on, also if the switch fails, for
//! what has been started of the other system by then may need it.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use guest::protocol::Exec;
use guest::renewal::RENEW;
use vmm::app::{App, AppFile, System};
use vmm::closure::{self, StorePath, StoreView};
use vmm::toplevel::SWITCH;

use crate::agent;
use crate::attach::{Company, Program, Stdio, attach};
use crate::commands::exec;
use crate::control::client;
use crate::control::message::Request;
use crate::environment;
use crate::output::say;
use crate::registration::Registration;

/// The systems of two files that say the same but for the system's path.
pub fn systems<'a>(old: &'a App, new: &'a App) -> Option<(&'a System, &'a System)> {
    let (from, to) = (old.system.as_ref()?, new.system.as_ref()?);
    let mut moved = new.clone();
    moved.system.as_mut()?.path.clone_from(&from.path);
    (moved == *old).then_some((from, to))
}

/// Has the machine called `name` become what the file says. Returns the status of what does that in it.
///
/// # Errors
/// It cannot even be begun.
pub fn carry_out(name: &str, file: &AppFile) -> Result<u8> {
    let app = &file.app;
    let roots = closure::roots(file);
    let view = StoreView::of(app, &roots)?;
    let registration = Registration::of(app, &view, &roots)?;
    show(name, &view, &roots)?;
    agent::carry_out(name, [RENEW.into()], None, agent::null()?)?;
    if let Some(registration) = registration {
        let (mut guest, _) = agent::connect(name)?;
        registration
            .carry_out(&mut guest)
            .context(name.to_owned())?;
    }
    switch(name, app)
}

fn show(name: &str, view: &StoreView, roots: &BTreeSet<StorePath>) -> Result<()> {
    // All of the store needs nothing more.
    let StoreView::Closure(closure) = view else {
        return Ok(());
    };
    let words = |path: &StorePath| path.as_str().to_owned();
    let request = Request::Show {
        paths: closure.paths().iter().map(words).collect(),
        roots: roots.iter().map(words).collect(),
    };
    client::order(name, &request)
}

fn switch(name: &str, app: &App) -> Result<u8> {
    let program = app.program();
    let system = app.system.as_ref().context("there is no system")?;
    let switch = format!("{}/{SWITCH}", system.path);
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let exec = Exec {
        // A boot loader, which "switch" would change, is none of the machine's.
        argv: vec![switch.as_str().into(), "test".into()],
        env: environment::lines(&program.env),
        tty: is_terminal.then(exec::tty),
        stdin: is_terminal,
        ..Exec::default()
    };
    let (mut guest, _) = agent::connect(name)?;
    let company = Company::default();
    let outcome = attach(
        &mut guest,
        Program::New(&exec),
        Stdio::inherited()?,
        company,
    )?;
    let status = outcome.tell(name)?;
    if status != 0 {
        say(format_args!(
            "{name}: {switch} ended with status {status}; the machine's file stays what it was"
        ));
    }
    Ok(status)
}
