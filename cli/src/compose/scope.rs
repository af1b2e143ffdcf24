//! Which project a command is about: its file, its name, and the variables that the file asks for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use vmm::compose::{ComposeFile, FILE_NAMES, Variables};

use crate::import::dotenv;

/// The file of variables beside a `compose.json`; those of the environment win.
const VARIABLES_FILE: &str = ".env";

/// Files of other programs that `mvm import` takes.
const OTHERS: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// Which project.
#[derive(Debug, clap::Args)]
// A group is named by its type, and each command has such a one.
#[group(skip)]
pub struct Scope {
    /// The file; by default compose.json or mvm-compose.json of the current folder
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The project's name, instead of the file's or its folder's
    #[arg(long, short, value_name = "NAME")]
    project: Option<String>,
    /// Also services that are of this profile
    #[arg(long, value_name = "PROFILE")]
    pub profile: Vec<String>,
}

impl Scope {
    /// Reads the file.
    ///
    /// # Errors
    /// There is none, or all that is wrong with it.
    pub fn load(&self) -> Result<ComposeFile> {
        load(&self.find()?, self.project.as_deref())
    }

    /// The file, if there is one or one was named. Without one a project is known by its name alone.
    ///
    /// # Errors
    /// There is neither file nor name, or all that is wrong with the file.
    pub fn load_if_any(&self) -> Result<Option<ComposeFile>> {
        match (&self.file, &self.project) {
            (None, Some(_)) if in_folder().is_none() => Ok(None),
            _ => self.load().map(Some),
        }
    }

    /// The project's name, where there is no file.
    pub fn project(&self) -> &str {
        self.project.as_deref().unwrap_or_default()
    }

    fn find(&self) -> Result<PathBuf> {
        if let Some(file) = self.file.clone().or_else(in_folder) {
            return Ok(file);
        }
        let other = OTHERS.iter().find(|name| Path::new(name).exists());
        let hint = match other {
            Some(other) => format!("; `mvm import {other}` makes one of {other}"),
            None => "; --file names one elsewhere".into(),
        };
        bail!(
            "there is no {} in this folder{hint}",
            FILE_NAMES.join(" or ")
        )
    }
}

/// The file of the current folder. Those of folders around it are somebody else's.
fn in_folder() -> Option<PathBuf> {
    let files = FILE_NAMES.iter().map(PathBuf::from);
    files.into_iter().find(|file| file.exists())
}

/// Reads the file of a project, which is called `name` whatever the file says.
///
/// # Errors
/// Its variables cannot be read, or all that is wrong with it.
pub fn load(file: &Path, name: Option<&str>) -> Result<ComposeFile> {
    Ok(ComposeFile::load(file, name, &variables(file)?)?)
}

/// The variables that `file` may ask for.
fn variables(file: &Path) -> Result<Variables> {
    // One that is no text is no word of a file either.
    let here = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let here: Variables = here.collect();
    let folder = file.parent().unwrap_or(Path::new("."));
    let beside = folder.join(VARIABLES_FILE);
    if !beside.exists() {
        return Ok(here);
    }
    let shown = beside.display();
    let text = fs::read_to_string(&beside).with_context(|| format!("cannot read {shown}"))?;
    let beside = dotenv::variables(&text, &here);
    let beside = beside.map_err(|error| anyhow!("{shown}:{error:#}"))?;
    Ok(beside.into_iter().chain(here).collect())
}
