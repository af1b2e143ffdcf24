//! A kept machine's folder, `$XDG_STATE_HOME/mvm/machines/<name>/`: what it is made from, what it
//! has said, and how it ended last.
//!
//! The one thing to know: whether it runs is not written here, since a crash would make that a lie;
//! [`super::running`] knows.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use vmm::app::{App, AppFile};

use crate::events::{self, Happened};
use crate::places;

/// What is known of a kept machine besides its app.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// When it was made.
    pub created: Timestamp,
    /// The file that it was made from; none if that was the standard input.
    pub source: Option<PathBuf>,
    /// Whether it goes when it ends.
    pub remove_at_end: bool,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// The exit status that `mvm run` would have had.
    pub status: u8,
    /// Why, if it was not the program's own end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it is to be started again at once: its system rebooted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reboots: bool,
}

/// A kept machine.
#[derive(Clone, Debug)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// Keeps a machine called `name`.
    ///
    /// # Errors
    /// There is one of that name, or the folder cannot be written.
    pub fn create(name: &str, app: &App, facts: &Facts) -> anyhow::Result<Self> {
        let parent = parent()?;
        places::private(&parent)?;
        let path = parent.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("there is a machine {name} already; `mvm rm {name}` removes it")
            }
            other => other.with_context(|| format!("cannot create {}", path.display()))?,
        }
        let record = Self { path };
        let written = record
            .write(FACTS, facts)
            .and_then(|()| record.set_app(app));
        match written {
            Ok(()) => events::note(name, Happened::Created),
            // The first error is the one to report.
            Err(_) => drop(fs::remove_dir_all(&record.path)),
        }
        written.map(|()| record)
    }

    /// The machine called `name`, if it is kept. Names that could be a path to elsewhere are of none.
    pub fn open(name: &str) -> Option<Self> {
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        let path = parent().ok()?.join(name);
        (is_plain && path.join(FACTS).is_file()).then_some(Self { path })
    }

    /// The names of all that are kept, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names() -> anyhow::Result<Vec<String>> {
        let parent = parent()?;
        let entries = match fs::read_dir(&parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.with_context(|| format!("cannot list {}", parent.display()))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.retain(|name| Self::open(name).is_some());
        names.sort();
        Ok(names)
    }

    /// The machine's name.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The file that it starts from, checked as any other.
    ///
    /// # Errors
    /// It cannot be read, or says something that this version does not understand.
    pub fn app_file(&self) -> anyhow::Result<AppFile> {
        Ok(AppFile::load(&self.path.join(APP))?)
    }

    /// Replaces the file that it starts from.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_app(&self, app: &App) -> anyhow::Result<()> {
        self.write(APP, app)
    }

    /// What is known besides.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn facts(&self) -> anyhow::Result<Facts> {
        self.read(FACTS)?
            .with_context(|| format!("{} has gone", self.path.join(FACTS).display()))
    }

    /// Replaces that.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_facts(&self, facts: &Facts) -> anyhow::Result<()> {
        self.write(FACTS, facts)
    }

    /// How it ended last; none if it has not run or has been killed with its monitor.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn end(&self) -> anyhow::Result<Option<End>> {
        self.read(END)
    }

    /// Notes how it ended, or that it starts: to be noted by who has its lock, for one that has started
    /// and neither runs nor ended was killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_end(&self, end: Option<&End>) -> anyhow::Result<()> {
        if let Some(end) = end {
            return self.write(END, end);
        }
        self.write(STARTED, &Timestamp::now())?;
        self.forget(END)
    }

    /// Whether it was ever started.
    pub fn has_started(&self) -> bool {
        self.path.join(STARTED).exists()
    }

    /// Whether a user, or its own healthcheck, has stopped it, so that nothing but a user starts it
    /// again.
    pub fn is_stopped(&self) -> bool {
        self.path.join(STOPPED).exists()
    }

    /// Notes that it was stopped, or that a user starts it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_stopped(&self, is_stopped: bool) -> anyhow::Result<()> {
        if is_stopped {
            self.write(STOPPED, &Timestamp::now())
        } else {
            self.forget(STOPPED)
        }
    }

    /// How often it was started again since a user has started it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn restarts(&self) -> anyhow::Result<u32> {
        Ok(self.read(RESTARTS)?.unwrap_or(0))
    }

    /// Notes how often it was.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_restarts(&self, count: u32) -> anyhow::Result<()> {
        match count {
            0 => self.forget(RESTARTS),
            count => self.write(RESTARTS, &count),
        }
    }

    /// The folder of its logs.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Forgets the machine with all that it has said. One that is forgotten already is left so.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.with_context(|| format!("cannot remove {}", self.path.display()))?,
        }
        events::note(&self.name(), Happened::Removed);
        Ok(())
    }

    fn forget(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {name}"))
            }
            _ => Ok(()),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        let cannot = || format!("cannot read {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(cannot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(cannot),
        }
    }

    /// Replaces a file as a whole: who reads it meanwhile, or after a crash, sees the one or the other, also
    /// of several that write at once.
    fn write(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let write = || -> anyhow::Result<()> {
            let mut bytes = serde_json::to_vec_pretty(value)?;
            bytes.push(b'\n');
            // Its owner's alone: an environment may hold what is nobody else's business.
            let mut file = NamedTempFile::with_prefix_in(format!(".{name}."), &self.path)?;
            file.write_all(&bytes)?;
            file.as_file().sync_data()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

const APP: &str = "app.json";
const FACTS: &str = "machine.json";
const END: &str = "end.json";
const STARTED: &str = "started.json";
const STOPPED: &str = "stopped.json";
const RESTARTS: &str = "restarts.json";

/// The folder of all kept machines.
fn parent() -> anyhow::Result<PathBuf> {
    Ok(places::state()?.join("machines"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use super::*;

    fn record(parent: &Path) -> Record {
        Record {
            path: parent.to_path_buf(),
        }
    }

    #[test]
    fn of_several_that_note_an_end_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        let end = |status| End {
            at: Timestamp::UNIX_EPOCH,
            status,
            reason: Some("x".repeat(usize::from(status) * 100)),
            reboots: false,
        };
        record.set_end(Some(&end(1))).unwrap();
        thread::scope(|scope| {
            for status in 1..=4 {
                let record = &record;
                scope.spawn(move || {
                    for _ in 0..50 {
                        record.set_end(Some(&end(status))).unwrap();
                        let seen = record.end().unwrap().unwrap();
                        assert_eq!(seen, end(seen.status));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_end_is_kept_until_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        let end = End {
            at: Timestamp::UNIX_EPOCH,
            status: 137,
            reason: Some("killed".into()),
            reboots: false,
        };
        assert_eq!((record.end().unwrap(), record.has_started()), (None, false));
        record.set_end(Some(&end)).unwrap();
        assert_eq!(record.end().unwrap(), Some(end));
        record.set_end(None).unwrap();
        record.set_end(None).unwrap();
        assert!(record.has_started());
        assert_eq!(record.end().unwrap(), None);
    }

    #[test]
    fn notes_are_kept_until_a_user_starts_it() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        assert!(!record.is_stopped() && record.restarts().unwrap() == 0);
        record.set_stopped(true).unwrap();
        record.set_restarts(7).unwrap();
        assert!(record.is_stopped() && record.restarts().unwrap() == 7);
        record.set_stopped(false).unwrap();
        record.set_restarts(0).unwrap();
        assert!(!record.is_stopped() && record.restarts().unwrap() == 0);
    }

    #[test]
    fn the_app_starts_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path());
        let mut app = App::new("web", vec!["/bin/sh".into()]);
        app.app.env.insert("A".into(), None);
        app.store.mode = vmm::app::StoreMode::None;
        record.set_app(&app).unwrap();
        assert_eq!(record.app_file().unwrap().app, app);
    }

    #[test]
    fn a_name_is_not_a_path() {
        for name in ["", ".", "..", "../web", "/etc"] {
            assert!(Record::open(name).is_none(), "{name}");
        }
    }
}
