//! Which project a command is about: its file, its name, and the variables that the file asks for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use vmm::app::{Problem, Problems};
use vmm::compose::{Asked, ComposeFile, FILE_NAMES, OVERRIDE_NAMES, Variables};

use crate::import::dotenv;

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
    /// The file; by default compose.json or mvm-compose.json of the current folder, and
    /// compose.override.json or mvm-compose.override.json beside it. Of several each is put over those
    /// before it, and relative paths start at the first one's folder
    #[arg(long, short, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The project's name, instead of the file's or its folder's
    #[arg(long, short, value_name = "NAME")]
    project: Option<String>,
    /// Also services that are of this profile
    #[arg(long, value_name = "PROFILE")]
    pub profile: Vec<String>,
}

impl Scope {
    /// Reads the files.
    ///
    /// # Errors
    /// There is none, or all that is wrong with them.
    pub fn load(&self) -> Result<ComposeFile> {
        Ok(load(&self.find()?, self.project.as_deref())?)
    }

    /// The file, if there is one or one was named. Without one a project is known by its name alone.
    ///
    /// # Errors
    /// There is neither file nor name, or all that is wrong with the file.
    pub fn load_if_any(&self) -> Result<Option<ComposeFile>> {
        let is_by_name = self.file.is_empty() && self.project.is_some();
        if is_by_name && in_folder().is_empty() {
            return Ok(None);
        }
        self.load().map(Some)
    }

    /// The project's name, where there is no file.
    pub fn project(&self) -> &str {
        self.project.as_deref().unwrap_or_default()
    }

    fn find(&self) -> Result<Vec<PathBuf>> {
        let files = match &self.file[..] {
            [] => in_folder(),
            files => files.to_vec(),
        };
        if !files.is_empty() {
            return Ok(files);
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

/// The file of the current folder, and the one that is put over it. Those of folders around it are
/// somebody else's.
fn in_folder() -> Vec<PathBuf> {
    let mut files = FILE_NAMES.iter().zip(OVERRIDE_NAMES);
    let Some((file, over)) = files.find(|(file, _)| Path::new(file).exists()) else {
        return Vec::new();
    };
    let over = Some(PathBuf::from(over)).filter(|over| over.exists());
    [PathBuf::from(file)].into_iter().chain(over).collect()
}

/// Reads the files of a project, which is called `name` whatever they say.
///
/// # Errors
/// All that is wrong with them, and with the files of variables that they have.
pub fn load(files: &[PathBuf], name: Option<&str>) -> Result<ComposeFile, Problems> {
    // One that is no text is no word of a file either.
    let here = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    ComposeFile::load(&Asked {
        files,
        name,
        variables: &here.collect(),
        read_variables: &variables,
    })
}

/// The variables of a file, which may ask for those that are `known`.
fn variables(file: &Path, known: &Variables) -> Result<Variables, Problem> {
    let problem = |line, message| Problem {
        file: file.display().to_string(),
        line,
        column: line.map(|_| 1),
        path: String::new(),
        message,
    };
    let text = fs::read_to_string(file);
    let text = text.map_err(|error| problem(None, format!("cannot read: {error}")))?;
    dotenv::variables(&text, known).map_err(|error| {
        // Its first word is the line.
        let line = error.to_string().parse().ok();
        let words = error.chain().skip(usize::from(line.is_some()));
        let words: Vec<_> = words.map(ToString::to_string).collect();
        problem(line, words.join(": "))
    })
}
