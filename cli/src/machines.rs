//! The machines of this user: those that run, and those that are kept.

pub mod record;
pub mod running;

use anyhow::{Context, bail, ensure};

pub use record::Record;
pub use running::Running;

/// A machine that has a name.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// What is kept of it; none for one in the foreground, which is gone when it ends.
    pub record: Option<Record>,
    /// Whether it runs.
    pub is_running: bool,
}

impl Machine {
    fn of(name: String) -> Self {
        Self {
            record: Record::open(&name),
            is_running: running::is_running(&name),
            name,
        }
    }

    /// The machine that is called exactly so, or nothing but the name.
    pub fn named(name: &str) -> Self {
        Self::of(name.to_owned())
    }

    /// # Errors
    /// It does not run.
    pub fn ensure_running(&self) -> anyhow::Result<()> {
        ensure!(self.is_running, "{} does not run", self.name);
        Ok(())
    }

    /// Has nothing but a user start it again.
    ///
    /// # Errors
    /// That cannot be noted.
    pub fn give_up(&self) -> anyhow::Result<()> {
        match &self.record {
            Some(record) => record.set_stopped(true),
            None => Ok(()),
        }
    }

    /// What is kept of it.
    ///
    /// # Errors
    /// It runs in the foreground of another command.
    pub fn kept(&self) -> anyhow::Result<&Record> {
        match &self.record {
            Some(record) => Ok(record),
            None => bail!(
                "{} runs in the foreground, and nothing of it is kept",
                self.name
            ),
        }
    }
}

/// All machines, sorted by name.
///
/// # Errors
/// The state folder cannot be read.
pub fn all() -> anyhow::Result<Vec<Machine>> {
    let mut names = Record::names()?;
    names.extend(running::names());
    names.sort();
    names.dedup();
    Ok(names.into_iter().map(Machine::of).collect())
}

/// The machine that is called `name`, for what ends or removes it: the beginning of a name will not do.
///
/// # Errors
/// There is none.
pub fn called(name: &str) -> anyhow::Result<Machine> {
    let all = all()?;
    let begins_so = |machine: &&Machine| machine.name.starts_with(name);
    let like_it = all
        .iter()
        .find(begins_so)
        .map_or("`mvm ps -a` lists all".into(), |machine| {
            format!("{} is ended or removed by its whole name", machine.name)
        });
    all.into_iter()
        .find(|machine| machine.name == name)
        .with_context(|| format!("there is no machine {name}; {like_it}"))
}

/// The machine that is called `name`, or the only one whose name begins so.
///
/// # Errors
/// There is none, or more than one.
pub fn find(name: &str) -> anyhow::Result<Machine> {
    let mut found: Vec<_> = all()?
        .into_iter()
        .filter(|machine| machine.name.starts_with(name))
        .collect();
    if let Some(exact) = found.iter().position(|machine| machine.name == name) {
        return Ok(found.swap_remove(exact));
    }
    match found.len() {
        0 => bail!("there is no machine {name}; `mvm ps -a` lists all"),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let names: Vec<_> = found.iter().map(|machine| machine.name.as_str()).collect();
            bail!("{name} could be any of the machines {}", names.join(", "))
        }
    }
}
