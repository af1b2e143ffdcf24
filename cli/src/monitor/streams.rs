//! Where a program's streams and its kernel's messages go.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};

use crate::attach::{Commander, Stdio};
use crate::audience::Audience;
use crate::logs::{self, Journal, Keep, Rotating};

/// Where the program's streams go.
#[derive(Clone, Copy, Debug)]
pub enum Streams<'a> {
    /// To those of this process, or where these lead: systemd's journal.
    Inherited,
    /// To the logs in this folder.
    Kept(&'a Path),
}

impl Streams<'_> {
    /// Whether they are those of this process.
    pub fn is_inherited(self) -> bool {
        matches!(self, Self::Inherited)
    }

    /// What the program reads.
    pub fn input(self) -> Result<OwnedFd> {
        if self.is_inherited() {
            return Ok(Stdio::inherited()?.stdin);
        }
        let null = File::open("/dev/null").context("cannot open /dev/null")?;
        Ok(null.into())
    }

    /// Who may attach to the program of a machine in the background.
    pub fn audience(self, commander: &Commander) -> Option<Audience> {
        (!self.is_inherited()).then(|| Audience::new(commander.clone()))
    }

    /// Who keeps the output of the machine `name`, line by line, if somebody does. `is_typed_at`:
    /// the program has this process' terminal.
    pub fn keeper(self, name: &str, is_typed_at: bool) -> Result<Option<Box<dyn Keep + Send>>> {
        match self {
            Self::Inherited if is_typed_at => Ok(None),
            Self::Inherited => {
                let journal = Journal::of_this_process(name);
                Ok(journal.map(|journal| Box::new(journal) as _))
            }
            Self::Kept(folder) => Ok(Some(Box::new(open(&logs::output(folder))?))),
        }
    }

    /// Where the kernel's messages go unless the file says so.
    pub fn console(self) -> Result<Option<Box<dyn Write + Send>>> {
        match self {
            Self::Inherited => Ok(None),
            Self::Kept(folder) => Ok(Some(Box::new(open(&logs::console(folder))?))),
        }
    }
}

fn open(path: &Path) -> Result<impl Keep + Write + Send + use<>> {
    Rotating::open(path).with_context(|| format!("cannot open {}", path.display()))
}
